"""Configs by name."""

import importlib


def get_config(config_file):
    assert config_file.startswith("configs/")
    config = importlib.import_module("configs.base").config
    name = config_file.removeprefix("configs/").removesuffix(".py")
    config.update(importlib.import_module("configs." + name).config)
    config.output = config.output or "work_dirs/" + name
    return config
