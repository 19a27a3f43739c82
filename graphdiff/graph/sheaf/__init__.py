"""Sheaf diffusion on graphs: Laplacians of cellular sheaves and networks that learn the sheaf."""

from __future__ import annotations

from graphdiff.graph.sheaf.laplacian import SheafLaplacian
from graphdiff.graph.sheaf.network import SheafConfig, SheafNetwork
from graphdiff.graph.sheaf.topology import Topology

__all__ = ["SheafConfig", "SheafLaplacian", "SheafNetwork", "Topology"]
