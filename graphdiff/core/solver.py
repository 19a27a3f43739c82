"""Solvers: recipes that turn predictions of clean data into steps towards it.

The contract lives in :mod:`graphdiff.core.program`; this module gathers it with the solvers that a
plan (:mod:`graphdiff.core.plan`) cannot express, so that one import line is enough.
"""

from __future__ import annotations

from graphdiff.core.corrector import Corrector, Langevin, PredictorCorrector
from graphdiff.core.flow import FlowJump
from graphdiff.core.jump import AncestralJump, EulerJump, TauLeaping
from graphdiff.core.jump_corrector import JumpCorrector
from graphdiff.core.predictor import EulerMaruyama, Predictor, ReverseDiffusion
from graphdiff.core.program import Carry, Program, Solver
from graphdiff.core.remask import FirstHitting, ReMDM
from graphdiff.core.reveal import ConfidentJump
from graphdiff.core.s4 import S4

__all__ = [
    "S4",
    "AncestralJump",
    "Carry",
    "ConfidentJump",
    "Corrector",
    "EulerJump",
    "EulerMaruyama",
    "FirstHitting",
    "FlowJump",
    "JumpCorrector",
    "Langevin",
    "Predictor",
    "PredictorCorrector",
    "Program",
    "ReMDM",
    "ReverseDiffusion",
    "Solver",
    "TauLeaping",
]
