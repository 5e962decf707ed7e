"""Watching the nights: drift, maturity, realised performance, incidents, the policy of retraining, and alerts.

Only alerts are here yet; `nightscore/measures` holds the statistics that the others will stand on.
"""
