"""`make bench`: one night's scoring by Nightscore and by what else scores it, on the same files, in one run.

Added here: a part of the comparison. Not here: benchmarks of one part of Nightscore against itself (`benchmarks/*.py`).
"""
