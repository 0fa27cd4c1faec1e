"""The concepts nearest to vectors: cells to look in first, filters, and why a concept was not found."""
