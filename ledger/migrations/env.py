"""I/O: run by alembic with the connection that `ledger.database.migrate` hands in; there is no alembic.ini."""

from __future__ import annotations

from alembic import context

from ledger.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters tables by copying them
)
with context.begin_transaction():
    context.run_migrations()
