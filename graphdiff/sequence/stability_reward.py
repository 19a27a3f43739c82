r"""Predicted stability as a reward for inverse folding, and what it is compared with.

The reward of a design :math:`s` of a backbone with native sequence :math:`s^0` is the predicted
change per designed residue, kcal/mol,

.. math:: r(s) = \frac{S(X, s) - S(X, s^0)}{n} ,

so that designs of long and short backbones are comparable. A head learns from single mutations:
for many at once the sum of their predicted effects is an extrapolation, and a tuned design should
be judged by a head of other proteins and by the likelihood of the unmodified ProteinMPNN.
Gradients flow into class weights, which is what direct methods need.

Two predictions need no training: the log-likelihood ratio of ProteinMPNN at the mutated residue,
with the structure and all other letters given, and a substitution matrix (BLOSUM62).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import ArgumentError, CheckpointError
from graphdiff.core.state import State
from graphdiff.model import Model, load
from graphdiff.sequence.alphabet import PROTEIN
from graphdiff.sequence.nets.folding import AMINO
from graphdiff.sequence.nets.mpnn import MPNN, gather
from graphdiff.sequence.nets.mpnn_decoding import teacher_forced
from graphdiff.sequence.nets.stability import Landscape, letter_weights
from graphdiff.sequence.stability import StabilityTask, landscapes
from graphdiff.sequence.stability_data import Mutations
from graphdiff.sequence.structure import Backbone, Batch, collate

__all__ = ["StabilityReward", "load_stability", "mpnn_ratios", "scan", "substitution_scores"]

STRUCTURE = ("coords", "resolved", "position", "chain", "native")
REMEMBER = 128


def load_stability(model: Model | str | Path) -> Model:
    """A stability head by shipped name or folder.

    Raises:
        CheckpointError: There is no such model, or it is of another kind.
    """
    found = model if isinstance(model, Model) else load(model)
    if not isinstance(found.task, StabilityTask):
        raise CheckpointError(
            f"model {found.name!r} is of kind {found.task.kind!r}, but a stability reward needs "
            "one of kind 'stability'; train one with `graphdiff train stability-a --out FOLDER`"
        )
    return found


def scan(model: Model | str | Path, backbone: Backbone) -> NDArray[np.float64]:
    """Predicted change of every single mutation, kcal/mol ``[L, 20]``, positive is stabilising.

    Args:
        model: A stability head.
        backbone: The structure with its sequence; columns follow ``ACDEFGHIKLMNPQRSTVWY``.

    Raises:
        CheckpointError: The model is no stability head, or its features cannot be computed.
    """
    head = load_stability(model)
    assert isinstance(head.task, StabilityTask)
    return landscapes(head.task, head.denoiser, backbone)[0].scan().double().cpu().numpy()


class StabilityReward:
    """Predicted stability of designs; see the module docstring.

    Args:
        model: A stability head, or its shipped name or folder.

    Raises:
        CheckpointError: The model is of another kind.
    """

    differentiable: bool = True

    def __init__(self, model: Model | str | Path) -> None:
        self.model = load_stability(model)
        self._known: OrderedDict[bytes, Landscape] = OrderedDict()

    @property
    def name(self) -> str:
        """As it is written in ``--reward``."""
        return f"stability:{self.model.name}"

    def __call__(self, state: State) -> Tensor:
        """kcal/mol per designed residue ``[b]``, float64; positive is more stable than native.

        Args:
            state: Of inverse folding: ``tokens`` as classes or class weights, and its conditions.

        Raises:
            ArgumentError: The state carries no backbone.
        """
        if missing := [k for k in (*STRUCTURE, "given", "tokens") if k not in state.values]:
            raise ArgumentError(
                f"the reward {self.name} needs {', '.join(missing)} in a state: it judges designs "
                "of inverse folding, not other sequences"
            )
        if self.model.device != state.device:
            self.model.to(state.device)
            self._known.clear()
        weights = residue_weights(state)
        found: list[Tensor | None] = [None] * state.batch_size
        for rows, landscape in self._grouped(state):
            real = len(landscape.site)
            change = landscape.change(weights[rows, :real]).double()
            count = ((state["given"][rows] < 0) & state["resolved"][rows]).sum(1).clamp(min=1)
            for row, value in zip(rows, change / count, strict=True):
                found[row] = value
        return torch.stack([x for x in found if x is not None])

    def _grouped(self, state: State) -> list[tuple[list[int], Landscape]]:
        """Rows of each backbone of the batch, and its landscape."""
        parts = [state[name].detach().cpu() for name in STRUCTURE]
        rows: dict[bytes, list[int]] = {}
        for row in range(state.batch_size):
            real = int((parts[3][row] >= 0).sum())
            digest = hashlib.sha256()
            for part in parts:
                digest.update(part[row, :real].contiguous().numpy().tobytes())
            rows.setdefault(digest.digest(), []).append(row)
        grouped = []
        for key, members in rows.items():
            if key not in self._known:
                one = Batch(*(part[members[:1]] for part in parts))
                assert isinstance(self.model.task, StabilityTask)
                self._known[key] = landscapes(self.model.task, self.model.denoiser, one)[0]
            self._known.move_to_end(key)
            grouped.append((members, self._known[key]))
        while len(self._known) > REMEMBER:
            self._known.popitem(last=False)
        return grouped


def residue_weights(state: State) -> Tensor:
    """Class weights of each residue ``[b, L, 20]``: as given, or those of its token."""
    tokens, given = state["tokens"], state["given"]
    if not tokens.is_floating_point():
        tokens = torch.nn.functional.one_hot(tokens.clamp(max=AMINO), AMINO + 1).float()
    site = state.values.get("site")
    own = tokens if site is None else gather(tokens, site)
    kept = letter_weights(given.clamp(min=0), own.dtype)
    return torch.where((given >= 0).unsqueeze(-1), kept, own[..., :AMINO])


def mpnn_ratios(mutations: Mutations, net: MPNN, *, batch: int = 16) -> NDArray[np.float64]:
    """Log-likelihood ratios of mutant and wild letter, nats ``[n]``, without any training.

    Args:
        mutations: With their structures; every other letter of the structure is given.
        net: The published network.
        batch: Residues that are computed at once.
    """
    out = np.zeros(len(mutations))
    for protein, backbone in enumerate(mutations.backbones):
        one, length = collate([backbone]), len(backbone)
        rows = np.flatnonzero(mutations.protein == protein)
        sites = np.unique(mutations.site[rows])
        parts = []
        with torch.no_grad():
            encoding = net.encode(one.coords, one.resolved, one.position, one.chain)
            for start in range(0, len(sites), batch):
                some = torch.from_numpy(sites[start : start + batch])
                # The residue itself comes last, and sees all others.
                rank = torch.arange(length, dtype=torch.float64).repeat(len(some), 1)
                rank[torch.arange(len(some)), some] = length
                shared, letters = encoding.repeated(len(some)), one.native.expand(len(some), -1)
                log_p = teacher_forced(net, shared, letters, rank)
                parts.append(log_p[torch.arange(len(some)), some].double().numpy())
        table = np.concatenate(parts)[np.searchsorted(sites, mutations.site[rows])]
        here = np.arange(len(rows))
        out[rows] = table[here, mutations.mutant[rows]] - table[here, mutations.wild[rows]]
    return out


def substitution_scores(mutations: Mutations) -> NDArray[np.float64]:
    """BLOSUM62 of the old letter and the new one ``[n]``.

    Raises:
        ArgumentError: Biopython is not installed.
    """
    try:
        from Bio.Align import substitution_matrices
    except ImportError:
        raise ArgumentError(
            'substitution matrices need Biopython: pip install "graphdiffusion[bio]"'
        ) from None
    table = substitution_matrices.load("BLOSUM62")
    pairs = zip(mutations.wild, mutations.mutant, strict=True)
    names = [(PROTEIN.letters[a], PROTEIN.letters[b]) for a, b in pairs]
    return np.array([table[a][b] for a, b in names], dtype=np.float64)
