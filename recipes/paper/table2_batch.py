"""Table II, negatives of the batch: setting E contrasted with the views of the same global batch, no memory.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/paper/table2_batch.py

The paper's numbers are not known here. Not run on VGGFace2 by this project.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.queue = "batch"
