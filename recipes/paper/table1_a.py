"""Table I, setting A: AdaFace with AdaFace's augmentation. No quality gate, no contrast.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/paper/table1_a.py

The augmentation, each step with p = 0.2: down- and up-sampling, a crop of a small part, colours. Both views of every
image are classified here; the paper does not say whether its A saw both or the augmented one alone.

The paper, in percent: SCface rank-1 at d1 / d2 / d3 66.77 / 99.08 / 100.0, TinyFace rank-1 67.49, IJB-B 74.07, mean of
the five pair sets 95.76, mean of the six 83.86. This project has not repeated that run.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.degradation = "adaface"
config.qgface.classification_gate = "none"
config.qgface.queue = "none"
