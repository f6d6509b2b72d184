"""Grammar files, one per log source; data of the package `analyzer`."""
