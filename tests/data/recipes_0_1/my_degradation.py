# my_degradation.py
from easydict import EasyDict as edict

from qgface_plugin.recipe import load_config

config = load_config(__file__, "lfw_mbf.py")
config.qgface.degradation = edict(policy="ours", rescale_ratio=(0.2, 0.8), jpeg_p=0.5, jpeg_quality=50)
