"""AdaFace on the data, network and schedule of recipes/qgface_r34.py, to compare with: single views, no gate, no queue.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/adaface.py

The loss is its authors' margin with the running statistics of the norms (tests/loss/test_baselines.py).
This project has not run it to the end.
"""

from qgface_plugin.config import baseline, load_config

config = baseline(load_config(__file__, "qgface_r34.py"), "adaface")
