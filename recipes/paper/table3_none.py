"""Table III, no threshold: every view is classified and every pair contrasted, whatever its quality.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/paper/table3_none.py

The paper's numbers, and which of both gates its row opens, are not known here. Not run on VGGFace2 by this project.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.classification_gate = "none"
config.qgface.contrastive_gate = "none"
