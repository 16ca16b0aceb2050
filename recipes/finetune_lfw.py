"""recipes/finetune.py on a small RecordIO set (LFW in InsightFace's layout: 629 identities, 4,803 images).

    INIT_FROM=../shared/data/encoder/mobilefacenet192.onnx torchrun train_v2.py recipes/finetune_lfw.py

The data is ../shared/data/lfw/train, or the folder that DATA_ROOT names. docs/finetuning.md has the results.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "finetune.py")
config.rec = "../shared/data/lfw/train"
config.val_targets = ["lfw_dev"]
config.batch_size = 32
config.num_epoch = 3
config.num_workers = 1
