"""Table III, threshold b = 0.1 on the quality u in [0, 1]: setting E with it.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/paper/table3_b01.py

The paper's numbers are not known here. Not run on VGGFace2 by this project.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.b = 0.1
