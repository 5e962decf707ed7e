"""Dagster's side: definitions from specs, resources, partitions, the mapping of failures, and the command line.

Everything here is thin: it resolves, calls the engine, and attaches metadata. Assets, jobs and sensors have rooms of
their own at the top level. No rule about data lives here.
"""
