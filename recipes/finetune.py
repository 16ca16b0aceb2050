"""Fine-tune an encoder that is good on sharp faces for blurred ones, without losing the sharp ones or the gallery.

    INIT_FROM=my_encoder/model.pt DATA_ROOT=/data/my_faces torchrun train_v2.py recipes/finetune.py

INIT_FROM names the encoder (weights or ONNX), DATA_ROOT a folder with train.rec and the sets to verify on. Both views
of each image are pulled to what the encoder as it was, frozen, makes of the original: no identity is needed, and a
gallery that was enrolled with it stays valid. docs/finetuning.md says what else there is and how it compares.

The sets are verified as they are and degraded, before the first step and after each epoch. model_best.pt holds the
weights with the best degraded accuracy among those that lose at most max_regression on sharp faces.

Result: not measured on a large set by this project; recipes/finetune_lfw.py has figures of a small one.
"""

import os

from easydict import EasyDict as edict

config = edict()
config.init_from = os.environ.get("INIT_FROM")
config.rec = "/data/my_faces"
config.val_targets = ["lfw", "cfp_fp", "agedb_30"]

config.batch_size = 128
config.num_epoch = 4
config.warmup_epoch = 0.1
config.optimizer = "sgd"
config.lr = 0.003
config.momentum = 0.9
config.weight_decay = 5e-4
config.num_workers = 8
config.verbose = 10**9  # steps; the ends of the epochs are verified in any case

config.qgface = edict()
config.qgface.teacher_weight = 1.0
config.qgface.classification_weight = 0.0
config.qgface.queue = "none"
config.qgface.degradation = "ours"
config.qgface.finetune = edict(batchnorm="frozen")
config.qgface.verify = edict(before=True, degraded=True, keep_best="degraded", max_regression=0.005)
