"""Features and labels: the pipeline's dbt models, run on DuckDB over the lake's clean partitions.

`dbt.py` runs dbt in this process, `scratch.py` lays out one run's DuckDB, `build.py` is the step of a night.
Added here: rules that all feature SQL obeys. Not here: any SQL of a pipeline (`dbt/models/<pipeline>`).
"""
