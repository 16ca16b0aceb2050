"""QGFace with arcface_torch's vision transformer B and AdamW, as it is trained there on large sets. Not measured here.

Launch, 8 GPUs with 128 images each (1,024 images = 2,048 views a step; three steps make an update):

    DATA_ROOT=/data/webface42m torchrun --nproc_per_node=8 train_v2.py recipes/qgface_vit_b.py

Network, learning rate, weight decay, epochs, warm-up and sample rate are those of arcface_torch's configuration for
WebFace42M, the margin and what belongs to it are the paper's. A transformer needs millions of images.
"""

from easydict import EasyDict as edict

config = edict()
config.network = "vit_b_dp005_mask_005"
config.embedding_size = 512
config.rec = "/train_tmp/WebFace42M"
config.val_targets = ["lfw", "cfp_fp", "agedb_30"]
config.sample_rate = 0.3

config.batch_size = 128
config.gradient_acc = 3
config.num_epoch = 40
config.warmup_epoch = 4
config.optimizer = "adamw"
config.lr = 0.001
config.weight_decay = 0.1
config.fp16 = True
config.num_workers = 4

config.qgface = edict()
config.qgface.margin = "adaface"
config.qgface.queue = "proxy"
config.qgface.queue_size = 100_000  # not one entry for each of two million classes
config.qgface.degradation = "ours"
config.qgface.train = edict(checkpoint_activations=True, features_bias=False)
