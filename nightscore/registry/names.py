"""Names that model versions hold.

Added here: another alias. Not here: who holds it (`aliases.py`), or when it moves (`promotion.py`).
"""

CHAMPION = "champion"
CHALLENGER = "challenger"
SHADOW = "shadow"
CANARY = "canary"
PREVIOUS = "previous"
TRIALS = (CHALLENGER, SHADOW, CANARY)
"""What a version holds on its way to the champion's place, and gives back when the way ends."""
