"""Setting E with sensor noise in the degraded view, else recipes/qgface_r34.py.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/degradation/noise.py

At the small size, before the JPEG: up to 6 levels in the dark, and what light adds, up to 12 levels at white.

The paper has no such step, and this project has not trained with it yet.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.degradation = {"noise_p": 0.5}
