"""quality_degradation.py with another queue: negatives that are keys of a slowly moving encoder.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/quality/degradation_momentum.py

Table II of the paper on data where its gate does not open: docs/results.md.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "quality_degradation.py")
config.qgface.queue = "momentum"
