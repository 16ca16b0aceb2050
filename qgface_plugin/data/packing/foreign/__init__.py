"""Data sets that others have packed, as faces to pack: LMDB, tars of WebDataset, Parquet files, record files."""
