"""Sources: read the rows that a range of nights knows, typed and in a fixed order.

`paths` finds files, `files` reads their bytes, `sql` runs queries, `parts` holds what they give and evaluates the
spec's SQL over it, `columns` turns cells into declared types, `extract` puts rows into nights.
Added here: a new kind of source or file format. Not here: judging rows (`quality`) or storing partitions (`lake`).
"""
