"""Rebuilding a past night or model version to the byte, and tracing a row back to everything behind it.

Nothing is here yet; receipts (`nightscore/scoring`) and capsules (`nightscore/registry`) hold what it will need.
"""
