"""Table II, no queue: setting E without the contrast; the quality gate stays, so low-quality views teach nothing.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/paper/table2_none.py

In the paper contrast is not applied in this row, and the original and the augmented images are learnt from; whether its
gate stays, as it does here, the paper does not say. With the gate open, too, this is recipes/paper/table1_d.py.

The paper, in percent: SCface rank-1 at d1 / d2 / d3 87.85 / 99.38 / 100.0, TinyFace rank-1 68.24, IJB-B 90.57, mean of
the five pair sets 95.47, mean of the six 90.25. This project has not repeated that run.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.queue = "none"
