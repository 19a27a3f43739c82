"""Data sets: packed graphs, loaders, published splits and data cards."""

from __future__ import annotations

from graphdiff.data.dataset import Dataset
from graphdiff.data.graphs import Graphs
from graphdiff.data.registry import load, load_sequences, names

__all__ = ["Dataset", "Graphs", "load", "load_sequences", "names"]
