"""Model capsules: how a trained model is written, identified, verified and loaded again.

Start at `capsule.py` (the folder and its contents) and `verify.py` (the only way to load one).
A new file of the capsule is added in `capsule.py`. Fitting lives in `nightscore/training`.
"""
