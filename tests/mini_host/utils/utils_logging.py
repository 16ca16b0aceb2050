"""The log and running means."""

import logging
import os
import sys


class AverageMeter:
    def __init__(self):
        self.reset()

    def reset(self):
        self.avg, self.sum, self.count = 0, 0, 0

    def update(self, val, n=1):
        self.sum, self.count = self.sum + val * n, self.count + n
        self.avg = self.sum / self.count


def init_logging(rank, models_root):
    if rank == 0:
        root = logging.getLogger()
        root.setLevel(logging.INFO)
        for handler in (
            logging.FileHandler(os.path.join(models_root, "training.log")),
            logging.StreamHandler(sys.stdout),
        ):
            handler.setFormatter(logging.Formatter("Training: %(asctime)s-%(message)s"))
            root.addHandler(handler)
