"""Making past nights and model versions again to the byte, and tracing a row back to everything behind it.

Start at `versions.py`, `nights.py` and `trace.py`; `recompute.py` is what runs in the code of the time, `compare.py`
says what equal means. Added here: another thing that can be made again. Not here: what is kept for it, which is a
capsule (`nightscore/registry`) or a receipt (`nightscore/scoring`).
"""
