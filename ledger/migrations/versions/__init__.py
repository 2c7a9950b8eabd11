"""One file a schema version; released files are never edited."""
