"""Schema, state store, the one transaction, inbox, postings, statements."""
