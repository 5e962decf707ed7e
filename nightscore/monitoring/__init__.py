"""Watching the nights: drift, maturity, realised performance, incidents and the policy of retraining.

Nothing is here yet; `nightscore/measures` holds the statistics it will stand on.
"""
