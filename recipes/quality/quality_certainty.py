"""QGFace with 30 % of the pairs contrasted, and quality from the cosine to the own class centre by the nearest other's.

That is the certainty ratio of CR-FIQA.

    DATA_ROOT=/data/vggface2 torchrun --nproc_per_node=4 train_v2.py recipes/quality/quality_certainty.py

docs/results.md compares the sources.
"""

from qgface_plugin.config import load_config

config = load_config(__file__, "../qgface_r34.py")
config.qgface.quality = "certainty"
config.qgface.b_quantile = 0.3
