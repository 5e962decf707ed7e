"""The engine of Nightscore: everything a night needs, and nothing of the orchestrator.

Data flows one way: spec, lake, features, model, predictions, publication, monitoring; each is a package here.
A new capability goes into the package its data belongs to. No module of the engine imports Dagster.
"""
