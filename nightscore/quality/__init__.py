"""Gates: what a dataset must be like before anyone may read it.

`rules.py` makes rules from the spec, `masks.py` finds offending rows, `counts.py` adds them up, `suites.py` has Great
Expectations judge, `verdicts.py` puts it into words, `gate.py` brings all to one verdict (`stored.py` and `repeats.py`:
over a file in batches), `report.py` is what is kept of it: counts, never a value of the data.
A new kind of expectation is added to `masks.py` and `suites.py`. Not here: where rows come from or are stored.
"""
