"""The watch of the nights: what a night shows, the levels it is judged by, and the verdict without which none is seen.

Levels, incidents and retraining are one pure machine (`state.py`); `measure.py` and `verdicts.py` bring it the lake.
It stands below publishing, which asks it; outcomes, alerts and whatever else follows later are in `monitoring`.
"""
