r"""A stability landscape on the sequences of one backbone: site terms and contact terms.

For a backbone :math:`X` and a sequence :math:`s`, written as class weights
:math:`s_i \in [0, 1]^{20}`,

.. math:: S(X, s) = \sum_i \varphi_i(X) \cdot s_i
    + \tfrac12 \sum_{i \ne j} \sum_r w_r(d_{ij}) \, (u_r \cdot s_i)(u_r \cdot s_j),
    \qquad \varphi_i = a\, \ell_i + f(h_i, \ell_i),

with the residue features :math:`h_i` of the frozen encoder of ProteinMPNN, its log-probabilities
:math:`\ell_i` of a residue that sees no letters, a small network :math:`f`, and functions
:math:`w_r` of the distance :math:`d_{ij}` between the (virtual) beta carbons that end at ``reach``.
The predicted change of the folding free energy of any change of letters is a difference,

.. math:: \Delta\Delta G(s \to s') = S(X, s') - S(X, s),

so that it is antisymmetric, additive along paths, zero for no change, and differentiable in class
weights. Positive is stabilising, in kcal/mol.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from graphdiff.sequence.nets.folding import AMINO
from graphdiff.sequence.nets.mpnn import MPNN, virtual_cb
from graphdiff.sequence.nets.mpnn_decoding import teacher_forced

__all__ = ["Landscape", "StabilityNet", "distances", "letter_weights", "structure_features"]

NEAREST = 3.0
"""Å; beta carbons are rarely closer."""


def letter_weights(classes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Class weights ``[..., 20]`` of classes; an unknown letter (20) is all of them equally."""
    weights = functional.one_hot(classes.clamp(max=AMINO), AMINO + 1).to(dtype)
    return weights[..., :AMINO] + weights[..., AMINO:] / AMINO


def structure_features(
    trunk: MPNN, coords: Tensor, resolved: Tensor, position: Tensor, chain: Tensor
) -> tuple[Tensor, Tensor]:
    """Residue features ``[b, L, H]`` and log-probabilities ``[b, L, 20]`` without any letters.

    Args:
        trunk: The frozen network.
        coords: Å, ``[b, L, 4, 3]``.
        resolved: Whether a residue has coordinates, bool ``[b, L]``.
        position: Place along the chain, int64 ``[b, L]``.
        chain: Index of the chain, int64 ``[b, L]``.
    """
    with torch.no_grad():
        encoding = trunk.encode(coords, resolved, position, chain)
        # Equal ranks: no residue sees the letter of another, so that letters do not matter.
        blind = torch.zeros_like(position)
        log_p = teacher_forced(trunk, encoding, blind, blind.double())[..., :AMINO]
    return encoding.nodes, log_p


def distances(coords: Tensor, resolved: Tensor) -> Tensor:
    """Å between beta carbons ``[b, L, L]``; infinite to itself and where there are no coordinates.

    Args:
        coords: Å, ``[b, L, 4, 3]``.
        resolved: Whether a residue has coordinates, bool ``[b, L]``.
    """
    beta = virtual_cb(coords)
    far = torch.cdist(beta, beta, compute_mode="donot_use_mm_for_euclid_dist")
    itself = torch.eye(far.shape[-1], dtype=torch.bool, device=far.device)
    known = resolved.unsqueeze(1) & resolved.unsqueeze(2) & ~itself
    return far.masked_fill(~known, torch.inf)


@dataclass(frozen=True)
class Landscape:
    """The terms of one backbone; see the module docstring.

    Attributes:
        site: ``[L, 20]``.
        contact: Symmetric with a zero diagonal, ``[R, L, L]``.
        letters: ``[R, 20]``.
        native: Class weights of the letters in the structure file, ``[L, 20]``.
    """

    site: Tensor
    contact: Tensor
    letters: Tensor
    native: Tensor

    def stability(self, weights: Tensor) -> Tensor:
        """``S`` in kcal/mol, ``[b]``, up to a constant of the backbone.

        Args:
            weights: Class weights ``[b, L, 20]``.
        """
        own = (self.site * weights).sum((-1, -2))
        charge = weights @ self.letters.t()
        field = torch.einsum("rij,bjr->bir", self.contact, charge)
        return own + 0.5 * (charge * field).sum((-1, -2))

    def change(self, weights: Tensor) -> Tensor:
        """Predicted change from the native sequence ``[b]``, kcal/mol, positive is stabilising."""
        return self.stability(weights) - self.stability(self.native.unsqueeze(0))

    def scan(self) -> Tensor:
        """Predicted change of every single mutation of the native sequence, ``[L, 20]``."""
        field = torch.einsum("rij,jr->ir", self.contact, self.native @ self.letters.t())
        terms = self.site + field @ self.letters
        return terms - (terms * self.native).sum(-1, keepdim=True)


class StabilityNet(nn.Module):
    """Terms of landscapes, from features of backbones; see the module docstring.

    Args:
        features: Width ``H`` of the residue features.
        hidden: Width of the network of the site terms.
        rank: Number of kinds ``R`` of contacts.
        centres: Radial functions of a distance.
        reach: Å, where contacts end.
        dropout: Share of the features that training drops.
        scale: kcal/mol, standard deviation of the training set: the unit of the network's output.
    """

    scale: Tensor

    def __init__(
        self,
        features: int = 128,
        *,
        hidden: int = 32,
        rank: int = 6,
        centres: int = 8,
        reach: float = 12.0,
        dropout: float = 0.2,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.reach = reach
        self.norm = nn.LayerNorm(features)
        self.terms = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(features + AMINO, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, AMINO, bias=True),
        )
        last = self.terms[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)  # a fresh landscape is the log-probability of ProteinMPNN
        self.gain = nn.Parameter(torch.tensor(0.3))
        self.letters = nn.Parameter(torch.empty(rank, AMINO))
        nn.init.normal_(self.letters, std=0.3)
        self.profile = nn.Linear(centres, rank, bias=False)
        nn.init.normal_(self.profile.weight, std=0.02)
        self.register_buffer("centres", torch.linspace(NEAREST, reach, centres), persistent=False)
        # A fact of the config, not a weight: a model that starts from another's keeps its own.
        self.register_buffer("scale", torch.tensor(scale), persistent=False)

    def site_terms(self, nodes: Tensor, log_p: Tensor) -> Tensor:
        """kcal/mol ``[..., 20]`` of residue features ``[..., H]`` and log-probabilities."""
        change = self.terms(torch.cat((self.norm(nodes), log_p), -1))
        out: Tensor = self.scale * (self.gain * log_p + change)
        return out

    def contact_terms(self, distance: Tensor) -> Tensor:
        """kcal/mol ``[..., R]`` of distances ``[...]`` in Å; zero from ``reach`` on."""
        assert isinstance(self.centres, Tensor)
        width = (self.reach - NEAREST) / len(self.centres)
        near = distance.clamp(max=self.reach)
        wave = torch.exp(-(((near.unsqueeze(-1) - self.centres) / width) ** 2))
        end = 0.5 * (1 + torch.cos(math.pi * near / self.reach))
        out: Tensor = self.scale * self.profile(wave) * end.unsqueeze(-1)
        return out

    def forward(
        self, values: Mapping[str, Tensor], label: Tensor, masks: Mapping[str, Tensor], cond: Any
    ) -> dict[str, Tensor]:
        """Change ``y`` ``[b, 1]`` by one mutation of each sample.

        Args:
            values: Not read: at clock 1 the noisy target says nothing.
            label: Not read.
            masks: Not read.
            cond: Of the mutated residue, ``nodes`` ``[b, H]``, ``log_p`` ``[b, 20]``, ``distance``
                to every residue ``[b, L]``, and the classes ``wild`` and ``mutant`` ``[b]``;
                ``native``, the class of every residue ``[b, L]``.
        """
        site = self.site_terms(cond["nodes"], cond["log_p"])
        step = letter_weights(cond["mutant"]) - letter_weights(cond["wild"])
        charge = letter_weights(cond["native"]) @ self.letters.t()
        field = (self.contact_terms(cond["distance"]) * charge).sum(1)
        change = (site * step).sum(-1) + (field * (step @ self.letters.t())).sum(-1)
        return {"y": change.unsqueeze(-1)}

    def landscape(
        self, nodes: Tensor, log_p: Tensor, distance: Tensor, resolved: Tensor, native: Tensor
    ) -> Landscape:
        """The landscape of one backbone.

        Args:
            nodes: Residue features ``[L, H]``.
            log_p: Log-probabilities without letters ``[L, 20]``.
            distance: Å between beta carbons ``[L, L]``, see :func:`distances`.
            resolved: Whether a residue has coordinates, bool ``[L]``; others have no terms.
            native: Classes ``[L]``, 20 where unknown.
        """
        site = self.site_terms(nodes, log_p) * resolved.unsqueeze(-1)
        contact = self.contact_terms(distance).permute(2, 0, 1)
        return Landscape(site, contact, self.letters, letter_weights(native))
