"""Table II, proxy-updated queue: setting E as it is.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/paper/table2_proxy.py

The paper's numbers are those of recipes/paper/table1_e.py.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.queue = "proxy"
