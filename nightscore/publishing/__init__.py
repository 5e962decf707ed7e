"""Publication: from a predictions partition to rows that BI tools read, by one atomic pointer move.

`mart.py` declares the table of a pipeline, `publish.py` fills and points, `views.py` and `marts.py` are what readers
see. Added here: another way to show what is published. Not here: scores, or whether they are good enough.
"""
