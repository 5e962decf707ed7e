"""From a training frame to a fitted, evaluated model: matrix, algorithms, evaluation, fit.

Start at `fit.py`. Frames in, models and figures out: which partitions make a training set, and where a model
is kept, are decided elsewhere (`training_set.py` reads the lake, `nightscore/registry` keeps models).
"""
