"""Table I, setting D: the paper's degradation alone: A with its views, no quality gate, no contrast.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/paper/table1_d.py

The paper's numbers are not known here: the table in its authors' repository leaves this setting out, and calls D what
is E here. This project has not run it on VGGFace2.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.classification_gate = "none"
config.qgface.queue = "none"
