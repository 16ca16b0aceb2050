"""quality_degradation.py without contrast: what the gate leaves out of the classification is not learnt at all.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/quality/degradation_none.py

Table II of the paper on data where its gate does not open: docs/results.md.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "quality_degradation.py")
config.qgface.queue = "none"
