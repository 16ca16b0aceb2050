"""QGFace as published: setting E of Table I, ResNet-34 on VGGFace2.

Launch, 4 GPUs with 128 images each (512 images = 1,024 views a step):

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/qgface_r34.py

The paper's result, in percent: SCface rank-1 at d1 / d2 / d3 92.31 / 99.54 / 100.0, TinyFace rank-1 69.85,
IJB-B 91.05, mean of the five high-quality pair sets 95.43. This project has not repeated that run.
"""

from easydict import EasyDict as edict

config = edict()
config.network = "r34"
config.embedding_size = 512
config.rec = "/train_tmp/vggface2"
config.val_targets = ["lfw", "cfp_fp", "agedb_30", "calfw", "cplfw"]

config.batch_size = 128
config.num_epoch = 12
config.optimizer = "sgd"
config.lr = 0.2
config.momentum = 0.9
config.weight_decay = 5e-4
config.fp16 = True
config.num_workers = 4

config.qgface = edict()
config.qgface.margin = "adaface"
config.qgface.m = 0.4
config.qgface.s = 64.0
config.qgface.b = 0.2
config.qgface.queue = "proxy"
config.qgface.queue_size = None  # the number of classes
config.qgface.degradation = "ours"
config.qgface.train = edict(schedule="step", milestones=(6, 9), gamma=0.1, features_bias=False, channels_last=True)
