"""The pairwise pass: what it needs in memory, how it is cut into tiles, and the matrix it fills."""
