"""The pipeline spec: frozen models, YAML in, precise errors out, JSON Schema.

Start at `pipeline.py` (the whole spec) and `loader.py` (YAML to spec). Nothing here reads data or a database.
"""
