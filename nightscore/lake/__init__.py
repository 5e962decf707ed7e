"""The lake: every partition as an immutable Parquet object under its content hash, in DVC's layout.

`objects.py` keeps bytes, `parquet.py` fixes how a frame becomes bytes, `partitions.py` joins objects with the
catalog's pointers, `workspace.py` hands the opened whole to the layers above. No dataset's meaning lives here.
"""
