"""What is on disk: SQLite in WAL mode, one writer thread, group commit, a few readers."""
