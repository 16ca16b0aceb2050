"""The whole chain on a machine without data, in about two minutes on two CPU cores.

    python train_v2.py recipes/quickstart.py

It draws a data set of procedural faces (RecordIO, as InsightFace packs it), trains a very small encoder on sharp and
degraded views with the quality gate and the proxy-updated queue, and verifies it after every epoch on pairs of
persons that it has not seen. A demonstration and a test bed: drawn faces say nothing about real ones.
"""

from easydict import EasyDict as edict

config = edict()
config.network = "quick"
config.embedding_size = 128
config.rec = "work_dirs/procedural_faces"
config.val_targets = ["procedural_dev"]

config.batch_size = 32
config.num_epoch = 4
config.warmup_epoch = 0.5
config.lr = 0.02
config.num_workers = 1
config.frequent = 25

config.qgface = edict()
config.qgface.queue = "proxy"
config.qgface.b = 0.4  # higher than the paper's 0.2, so that in so short a run both terms have work to do
config.qgface.data = edict(source="procedural", identities=200, images_per_identity=20, pairs=600)
config.qgface.train = edict(
    schedule="step", milestones=(3,), features_bias=False, channels_last=True, pair_grid_every=100
)
