"""A store as one HTML page that needs nothing else: what it holds, how that came about, and how long the run took."""
