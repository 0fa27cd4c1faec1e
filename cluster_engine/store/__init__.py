"""The versioned Parquet store: one directory, one manifest per version, readable by any Parquet tool."""
