"""Setting E with a face out of place in the degraded view, else recipes/qgface_r34.py.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/degradation/misalign.py

The degraded view is first shifted by up to 5 % of the side, scaled by up to 10 % and turned by up to 10 degrees, as a
detector does it that finds the landmarks of a blurred face less well.

The paper has no such step, and this project has not trained with it yet.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.degradation = {"misalign_p": 0.5}
