"""After the verdict: outcomes and their maturity, realised performance, rollouts, reviews by people, and alerts.

Added here: something that is learnt from published nights, or done about them. Not here: judging a night before it is
published (`nightscore/watch`).
"""
