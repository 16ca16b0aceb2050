"""Commands of `qgface`, one file each: a parser, and `main(arguments)`, which returns the exit status.

`qgface_plugin/__main__.py` lists them; the scripts in `tools/` and `train_v2.py` call the same functions.
"""
