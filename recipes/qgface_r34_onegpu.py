"""The paper's run (recipes/qgface_r34.py) on one GPU: the same 512 images a step, so the same learning rate.

    DATA_ROOT=/data/vggface2 torchrun train_v2.py recipes/qgface_r34_onegpu.py

Where 512 images (1,024 views) do not fit, halve batch_size and lr together. Result: not measured by this project.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "qgface_r34.py")
config.batch_size = 512
config.num_workers = 12
