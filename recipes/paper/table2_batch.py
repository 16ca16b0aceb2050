"""Table II, negatives of the batch: setting E contrasted with the views of the same global batch, no memory.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/paper/table2_batch.py

The paper, in percent: SCface rank-1 at d1 / d2 / d3 87.54 / 99.38 / 100.0, TinyFace rank-1 68.67, IJB-B 87.38, mean of
the five pair sets 95.28, mean of the six 89.71. This project has not repeated that run.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.queue = "batch"
