"""Table II, no queue: setting E without the contrast; the quality gate stays, so low-quality views teach nothing.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/paper/table2_none.py

The paper's numbers, and whether its row keeps the gate, are not known here. Not run on VGGFace2 by this project.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.queue = "none"
