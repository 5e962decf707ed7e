"""Pure statistics: arrays in, numbers out, no I/O and no state.

Added here: a measure with its source in the docstring and a reference value in a test. Not here: when it is applied.
"""
