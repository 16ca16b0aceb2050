"""Table I, baseline: AdaFace on the images as they are. No degraded views, no quality gate, no contrast.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/paper/table1_baseline.py

The paper, in percent: SCface rank-1 at d1 / d2 / d3 61.69 / 97.23 / 99.85, TinyFace rank-1 63.98, IJB-B 90.26, mean of
the five pair sets 95.62, mean of the six 84.77. This project has not repeated that run.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.degradation = None
config.qgface.classification_gate = "none"
config.qgface.queue = "none"
