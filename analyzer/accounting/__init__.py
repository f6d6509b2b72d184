"""What became of the records of each source, by which release they were written, and the tables that say so."""
