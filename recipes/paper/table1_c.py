"""Table I, setting C: B with the contrast of low-quality pairs: QGFace with AdaFace's augmentation.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/paper/table1_c.py

The paper, in percent: SCface rank-1 at d1 / d2 / d3 70.92 / 98.62 / 99.69, TinyFace rank-1 66.58, IJB-B 90.59, mean of
the five pair sets 95.71, mean of the six 87.02. This project has not repeated that run.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.degradation = "adaface"
