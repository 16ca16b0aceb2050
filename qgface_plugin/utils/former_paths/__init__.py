"""Import paths of earlier versions that users' files may hold, kept for one version.

The folder is on the package's `__path__`: what stands here as `recipe.py` is found as `qgface_plugin.recipe`. Nothing
of the project imports it.
"""
