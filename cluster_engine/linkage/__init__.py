"""From similarities to a dendrogram, and from a dendrogram to flat groups."""
