"""QGFace with MobileFaceNet on a small RecordIO set (LFW in InsightFace's layout: 629 identities, 4,803 images).

    torchrun train_v2.py recipes/lfw_mbf.py

The data is ../shared/data/lfw/train, or the folder that DATA_ROOT names. It is a check of the whole chain on real
faces, not a way to a good encoder: 4,803 images are a thousandth of what face recognition trains on.

Result, one run on one CPU thread: loss 36.3, 31.3, 25.9 (means of the epochs), lfw_dev 72.7, 80.2, 82.0 % after them.
"""

from easydict import EasyDict as edict

config = edict()
config.network = "mbf"
config.embedding_size = 512
config.rec = "../shared/data/lfw/train"
config.val_targets = ["lfw_dev"]

config.batch_size = 16
config.num_epoch = 3
config.warmup_epoch = 0.25  # without it the first steps blow up the class centres, and little is learnt
config.optimizer = "sgd"
config.lr = 0.02
config.momentum = 0.9
config.weight_decay = 5e-4
config.num_workers = 1

config.qgface = edict()
config.qgface.queue = "proxy"
config.qgface.b = 0.2
config.qgface.degradation = "ours"
config.qgface.train = edict(features_bias=False, channels_last=True, pair_grid_every=100)
