"""Setting E with the blur of turbulent air in the degraded view, else recipes/qgface_r34.py.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/degradation/atmosphere.py

A long exposure's, 1 to 5 pixels of the full size wide at half its height.

The paper has no such step, and this project has not trained with it yet.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.degradation = {"atmosphere_p": 0.3}
