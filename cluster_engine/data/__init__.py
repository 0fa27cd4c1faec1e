"""Episodes in: files found, columns checked, bad rows quarantined, good rows sorted by id."""
