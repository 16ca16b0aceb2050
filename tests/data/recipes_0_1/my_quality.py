# my_quality.py
from qgface_plugin.qualities import QualitySource, quality_source
from qgface_plugin.recipe import load_config


def contrast(images, strength):
    """log of the standard deviation of each image's pixels."""
    return images.float().std(dim=(1, 2, 3)).clamp_min(1e-3).log()


quality_source(QualitySource("contrast", limits=(-7.0, 1.0), of_images=contrast))
config = load_config(__file__, "lfw_mbf.py")
config.qgface.quality = "contrast"
config.qgface.b_quantile = 0.3
