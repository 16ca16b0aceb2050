"""The chain of recipes/lfw_mbf.py with a residual encoder at half the side: for comparing settings on a CPU.

    torchrun train_v2.py recipes/lfw_small.py

Network `small` trains several times faster than `mbf` on one CPU thread; docs/results.md has the figures.

Result, one run on one CPU thread: lfw_dev 78.2, 84.2, 85.3 % after the epochs.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "lfw_mbf.py")
config.network = "small"
