# my_queue.py
from qgface_plugin.feature_queue import FeatureQueue
from qgface_plugin.queue_kinds import QueueKind, past_entries, queue_kind
from qgface_plugin.recipe import load_config


class Originals(FeatureQueue):
    """Only the original views are negatives."""

    def enqueue(self, features, labels, proxies):
        half = len(features) // 2  # originals come first
        super().enqueue(features[:half], labels[:half], None if proxies is None else proxies[:half])


queue_kind("originals", QueueKind(lambda size, dim: past_entries(Originals, size, dim), refreshed=True))
config = load_config(__file__, "lfw_mbf.py")
config.qgface.queue = "originals"
