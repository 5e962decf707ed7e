"""Alembic's entry: runs the migrations on the connection it is handed.

Nothing is configured here; `nightscore/catalog/migrate.py` is the only caller.
"""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table_schema="nightscore", transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
