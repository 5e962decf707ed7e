"""What people read about a night or a model: status, the closing report, and later charts and model cards.

Added here: another report. Not here: a decision, or a write of any kind.
"""
