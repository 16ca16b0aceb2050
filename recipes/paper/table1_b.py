"""Table I, setting B: A with the quality gate: views with u <= b are not classified, and learnt in no other way.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/paper/table1_b.py

The paper, in percent: SCface rank-1 at d1 / d2 / d3 68.15 / 98.46 / 100.0, TinyFace rank-1 67.03, IJB-B 70.45, mean of
the five pair sets 95.73, mean of the six 83.30. This project has not repeated that run.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.degradation = "adaface"
config.qgface.queue = "none"
