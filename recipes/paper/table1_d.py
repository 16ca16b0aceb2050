"""Table I, setting D: the paper's degradation alone: A with its views, no quality gate, no contrast.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/paper/table1_d.py

Both views of every image are classified here. The paper says "our augmentation to the original AdaFace", not whether
the original is seen, too. The table in its authors' repository calls D what is E in the paper and here.

The paper, in percent: SCface rank-1 at d1 / d2 / d3 88.62 / 99.23 / 100.0, TinyFace rank-1 68.80, IJB-B 89.50, mean of
the five pair sets 95.46, mean of the six 90.27. This project has not repeated that run.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.classification_gate = "none"
config.qgface.queue = "none"
