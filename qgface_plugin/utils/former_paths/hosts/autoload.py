"""The module that `attach` of version 0.1 let checkouts import: now `qgface_plugin.arcface_torch.autoload`."""

from __future__ import annotations

import qgface_plugin.arcface_torch.autoload  # noqa: F401
