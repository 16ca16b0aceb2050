"""Train a face encoder: the name and command line of arcface_torch's trainer, for `qgface train`."""

from __future__ import annotations

import sys
from functools import partial

from qgface_plugin.commands import train

main = partial(train.main, front="train_v2.py")

if __name__ == "__main__":
    sys.exit(main())
