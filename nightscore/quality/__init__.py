"""Gates: what a dataset must be like before anyone may read it.

`rules.py` makes rules from the spec, `masks.py` finds offending rows, `suites.py` has Great Expectations judge,
`gate.py` brings both to one verdict, `report.py` is what is kept of it: counts, never a value of the data.
A new kind of expectation is added to `masks.py` and `suites.py`. Not here: where rows come from or are stored.
"""
