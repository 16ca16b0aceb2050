"""quality_degradation.py with every view classified: contrast comes on top, and takes nothing from the classification.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/quality/degradation_all.py

For small sets, where a view that is not classified is missed: docs/results.md.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "quality_degradation.py")
config.qgface.classification_gate = "none"
