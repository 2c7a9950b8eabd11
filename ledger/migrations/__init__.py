"""Schema versions, run by `ledger.database.migrate` at start."""
