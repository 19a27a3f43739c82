"""The corpus of subgraphs of real networks over many domains, for pre-training (LGGM)."""

from __future__ import annotations

from graphdiff.data.corpus.loader import Corpus, load_lggm

__all__ = ["Corpus", "load_lggm"]
