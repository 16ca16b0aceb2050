"""Table II, momentum queue: setting E with a queue of keys from a slowly moving copy of the encoder (MoCo, m = 0.999).

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/paper/table2_momentum.py

The paper's numbers are not known here. Not run on VGGFace2 by this project.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.queue = "momentum"
