# my_margin.py
from qgface_plugin.heads import MarginHead, margin_head
from qgface_plugin.recipe import load_config


@margin_head("gentle")
class Gentle(MarginHead):
    """CosFace whose margin is half as large for the worst views."""

    def target(self, cosine, rows):
        return cosine - self.config.m * (0.75 + 0.25 * rows.zhat)


config = load_config(__file__, "lfw_mbf.py")
config.qgface.margin = "gentle"
