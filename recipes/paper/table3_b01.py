"""Table III, threshold b = 0.1 on the quality u in [0, 1]: setting E with it.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/paper/table3_b01.py

The paper, in percent: SCface rank-1 at d1 / d2 / d3 86.00 / 99.54 / 100.0, TinyFace rank-1 68.13, IJB-B 90.87, mean of
the five pair sets 95.41, mean of the six 89.99. This project has not repeated that run.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.b = 0.1
