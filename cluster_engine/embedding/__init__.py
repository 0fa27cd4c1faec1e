"""Texts in, episodes out: embedding models as plug-ins, and the one that a package ships."""
