"""A line down to zero."""

from torch.optim.lr_scheduler import LambdaLR


class PolynomialLRWarmup(LambdaLR):
    def __init__(self, optimizer, warmup_iters, total_iters=5, power=1.0, last_epoch=-1):
        super().__init__(optimizer, lambda step: max(0.0, 1 - step / total_iters), last_epoch)
