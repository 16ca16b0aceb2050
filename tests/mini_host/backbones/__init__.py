"""One network: mean colours of blocks, one layer, one BatchNorm."""

from torch import nn


class Small(nn.Module):
    def __init__(self, num_features):
        super().__init__()
        self.layer = nn.Linear(3 * 49, num_features)
        self.features = nn.BatchNorm1d(num_features)

    def forward(self, images):
        return self.features(self.layer(nn.functional.avg_pool2d(images, 16).flatten(1)))


def get_model(name, **kwargs):
    if name != "r18":
        raise ValueError()
    return Small(kwargs.get("num_features", 512))
