"""Sources: read the rows that a range of nights knows, typed and in a fixed order, however many there are.

`paths` finds files, `contents` fetches their bytes, `files` parses them, `sql` runs queries, `parts` holds some rows of
either and evaluates the spec's SQL over them, `columns` turns cells into declared types, `extract` puts rows into
nights, `spool` keeps them until they are stored.
Added here: a new kind of source or file format. Not here: judging rows (`quality`) or storing partitions (`lake`).
"""
