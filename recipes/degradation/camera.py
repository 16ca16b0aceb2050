"""Setting E with all four steps like a camera's in the degraded view, else recipes/qgface_r34.py.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/degradation/camera.py

Misalignment, motion blur, turbulent air and sensor noise, as in the other recipes of this folder.

The paper has no such step, and this project has not trained with it yet.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.degradation = {"misalign_p": 0.5, "motion_p": 0.3, "atmosphere_p": 0.3, "noise_p": 0.5}
