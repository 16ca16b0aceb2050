"""Sources: where faces come from, record files or folders."""
