"""The others: each file scores the reference files its way and runs as a process in an environment of its own.

Added here: one peer, with a `requirements-<environment>.txt` where the project's environment does not do.
Not here: how they are measured (`benchmarks/bench/measure.py`); nothing here imports nightscore.
"""
