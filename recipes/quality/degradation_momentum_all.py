"""degradation_momentum.py with every view classified: contrast comes on top, against keys of a slowly moving encoder.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/quality/degradation_momentum_all.py

docs/results.md says where it was ahead of classification alone.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "degradation_momentum.py")
config.qgface.classification_gate = "none"
