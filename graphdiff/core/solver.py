"""Solvers: recipes that turn predictions of clean data into steps towards it.

The contract lives in :mod:`graphdiff.core.program`; this module gathers the contract and the
solvers a plan cannot express, so that ``from graphdiff.core.solver import ...`` is enough.
"""

from __future__ import annotations

from graphdiff.core.program import Carry, Program, Solver

__all__ = ["Carry", "Program", "Solver"]
