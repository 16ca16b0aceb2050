"""Table II, momentum queue: setting E with a queue of keys from a slowly moving copy of the encoder (MoCo, m = 0.999).

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/paper/table2_momentum.py

The paper, in percent: SCface rank-1 at d1 / d2 / d3 63.08 / 97.85 / 99.85, TinyFace rank-1 62.34, IJB-B 88.70, mean of
the five pair sets 95.18, mean of the six 84.50. This project has not repeated that run.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.queue = "momentum"
