"""Positional encodings of nodes: spectra, random walks, and what networks make of them."""
