"""The catalog: which object is which partition now and at any earlier time, and every pointer with its history.

`tables.py` declares the tables, `migrations/` makes them, one module a noun queries them.
Everything is append-only but the pointers, and pointers keep history. No dataset's bytes live here (`nightscore/lake`).
"""
