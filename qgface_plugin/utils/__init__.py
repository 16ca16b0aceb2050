"""Tools that know nothing of faces: errors, registries, collectives, files, devices, logs, command lines."""
