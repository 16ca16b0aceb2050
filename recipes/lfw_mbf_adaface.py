"""Plain AdaFace on the data of recipes/lfw_mbf.py: the same views, no quality gate, no queue.

    torchrun train_v2.py recipes/lfw_mbf_adaface.py

Result, one run on one CPU thread: loss 36.7, 32.0, 26.8 (means of the epochs), lfw_dev 74.7, 80.4, 82.8 % after them.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "lfw_mbf.py")
config.qgface.queue = "none"
config.qgface.classification_gate = "none"
