"""Plain ArcFace by its formula."""

import torch


class CombinedMarginLoss(torch.nn.Module):
    def __init__(self, s, m1, m2, m3, interclass_filtering_threshold=0):
        super().__init__()
        self.s, self.m2 = s, m2

    def forward(self, logits, labels):
        own = labels.view(-1, 1) == torch.arange(logits.size(1), device=logits.device)
        angle = logits.clamp(-0.999, 0.999).arccos()
        return self.s * torch.where(own, (angle + self.m2).cos(), logits)
