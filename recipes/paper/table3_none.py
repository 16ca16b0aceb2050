"""Table III, no threshold: every view is classified and every pair contrasted, whatever its quality.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/paper/table3_none.py

The paper's row simply adds the two losses, both of which supervise all data: both gates are open.

The paper, in percent: SCface rank-1 at d1 / d2 / d3 90.77 / 99.69 / 100.0, TinyFace rank-1 69.80, IJB-B 91.26, mean of
the five pair sets 95.08, mean of the six 91.10. This project has not repeated that run.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.classification_gate = "none"
config.qgface.contrastive_gate = "none"
