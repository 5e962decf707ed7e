"""From features to predictions: scores in bounded memory, then ranks, decisions and their reasons.

A rule between the score and its reader is added in `decide.py`. Publishing lives in `nightscore/publishing`.
"""
