"""Setting E with motion blur in the degraded view, else recipes/qgface_r34.py.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/degradation/motion.py

A line of 3 to 11 pixels of the full size, in any direction.

The paper has no such step, and this project has not trained with it yet.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.degradation = {"motion_p": 0.3}
