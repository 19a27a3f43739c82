r"""Frechet ChemNet distance (FCD) of molecules, and the network behind it.

Preuer et al. 2018 (arXiv:1803.09518): with mean :math:`\mu` and covariance :math:`C` of the last
hidden layer of ChemNet over a set of SMILES,

.. math:: \mathrm{FCD} = \lVert \mu_1 - \mu_2 \rVert^2
          + \operatorname{tr}\bigl(C_1 + C_2 - 2 (C_1^{1/2} C_2 C_1^{1/2})^{1/2}\bigr).

Smaller is better. GuacaMol's *FCD score* is :math:`\exp(-0.2\,\mathrm{FCD})`, larger is better;
the two never share a name here (``fcd``, ``fcd_score``).

The weights (5.6 MB) are those inside the wheel of ``fcd_torch``; the file is read with
``weights_only=True``, so nothing in it is executed. ChemNet reads a SMILES padded to 350
characters through two strided convolutions without bias and two recurrent layers, both of which
run mostly over padding. Behind the last character the first layers see zeros only, so their
outputs there depend on the position alone: they are computed once, and each batch runs the
convolutions and the first recurrent layer over its longest SMILES only.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.graph.metrics.mmd import TwoSample

if TYPE_CHECKING:
    import torch

__all__ = ["ChemNet", "Frechet", "Statistics", "available", "chemnet", "frechet_distance"]

Float = NDArray[np.float64]

_SYMBOLS = tuple(
    "C N O H F Cl P B Br S I Si # ( ) + - 1 2 3 4 5 6 7 8 = [ ] @ c n o s X .".split()  # noqa: SIM905
)
_INDEX = {symbol: i for i, symbol in enumerate(_SYMBOLS)}
_LENGTH, _POSITIONS = 350, 88


def available() -> bool:
    """Whether the package with the weights is installed."""
    return importlib.util.find_spec("fcd_torch") is not None


def _tokens(smiles: str) -> list[int]:
    """Classes of the characters of a SMILES, ending with the stop class ``.``."""
    text, out, at = smiles + ".", [], 0
    while True:
        wide = text[at + 1] in "ril" if at + 1 < len(text) else False
        symbol = text[at : at + 2] if wide else text[at]
        at += len(symbol)
        out.append(_INDEX.get(symbol, _INDEX["X"]))
        if at >= len(text) or text[at] == "." or len(out) == _LENGTH - 1:
            return [*out, _INDEX["."]]


class ChemNet:
    """ChemNet's last hidden layer for SMILES, on the CPU.

    Args:
        layers: The content of the weight file: (kind, (weights, sizes, options)) per layer.
    """

    width = 512

    def __init__(self, layers: Sequence[Any]) -> None:
        import torch

        kinds = [layer[0] for layer in layers]
        if kinds != ["Conv1d", "Conv1d", "LSTM", "LSTM"]:
            raise DataError(
                f"the ChemNet weights hold the layers {kinds}, expected two convolutions and two "
                "recurrent layers: install fcd_torch 1.0.7"
            )
        self.convs = [layer[1][0]["weight"] for layer in layers[:2]]
        self.first = torch.nn.LSTM(**layers[2][1][1])
        self.first.load_state_dict(layers[2][1][0])
        self.first.eval().requires_grad_(False)
        second = layers[3][1][0]
        self.inputs = second["weight_ih_l0"].T.contiguous()
        self.hidden = second["weight_hh_l0"].T.contiguous()
        self.bias = second["bias_ih_l0"] + second["bias_hh_l0"]
        # First recurrent layer over padding, from the far end: state after k = 0..88 positions.
        with torch.no_grad():
            empty = torch.zeros(1, 1, self.convs[1].shape[0])
            state = (torch.zeros(1, 1, 128), torch.zeros(1, 1, 128))
            states = [state]
            for _ in range(_POSITIONS):
                _, state = self.first(empty, state)
                states.append(state)
            self.states = states
            outputs = torch.stack([states[_POSITIONS - q][0][0, 0] for q in range(_POSITIONS)])
            self.padding = outputs @ self.inputs + self.bias

    def _batch(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        import torch
        from torch.nn.functional import conv1d, pad, selu

        b, longest = len(tokens), max(map(len, tokens))
        # Positions p of the second convolution that see a character: 4 p - 3 <= last.
        used = min(_POSITIONS, (longest + 2) // 4 + 1)
        x = torch.zeros(b, len(_SYMBOLS), min(_LENGTH, 4 * used + 2))
        for i, row in enumerate(tokens):
            x[i, torch.tensor(row), torch.arange(len(row))] = 1 / len(_SYMBOLS)
        # "Same" padding of the full length 350: (1, 1), then (1, 2), so 175 and 88 outputs; what
        # lies right of a shorter window is zero either way.
        x = selu(conv1d(pad(x, (1, 4)), self.convs[0], stride=2))[:, :, : _LENGTH // 2]
        x = selu(conv1d(pad(x, (1, 4)), self.convs[1], stride=2))[:, :, :used]
        h0, c0 = (s.expand(1, b, 128).contiguous() for s in self.states[_POSITIONS - used])
        front, _ = self.first(x.transpose(1, 2).flip(1).contiguous(), (h0, c0))
        front = front.flip(1)
        h, c = torch.zeros(b, self.width), torch.zeros(b, self.width)
        for q in range(_POSITIONS):
            if q < used:
                drive = torch.addmm(self.bias, front[:, q], self.inputs)
                gates = drive.addmm_(h, self.hidden)
            else:
                gates = torch.addmm(self.padding[q], h, self.hidden)
            write, keep, new, show = gates.chunk(4, 1)
            c = keep.sigmoid_().mul_(c).addcmul_(write.sigmoid_(), new.tanh_())
            h = show.sigmoid_() * c.tanh()
        return h

    def __call__(
        self,
        smiles: Sequence[str],
        *,
        batch: int = 256,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Hidden layer ``[n, 512]`` of canonical SMILES; equal strings are computed once.

        Args:
            smiles: Canonical SMILES. Only the part before a ``.`` is read.
            batch: SMILES per network call.
            progress: Called with (distinct SMILES done, all distinct SMILES).
        """
        import torch

        names, where = np.unique(np.asarray(smiles, dtype=object).astype(str), return_inverse=True)
        if len(names) and not all(names):
            raise ArgumentError("an empty SMILES has no ChemNet features: leave it out")
        tokens = [_tokens(s) for s in names.tolist()]
        order = np.argsort([len(t) for t in tokens], kind="stable")
        out = np.zeros((len(names), self.width), np.float32)
        with torch.no_grad():
            for at in range(0, len(order), batch):
                index = order[at : at + batch]
                out[index] = self._batch([tokens[i] for i in index]).numpy()
                if progress is not None:
                    progress(min(at + batch, len(order)), len(order))
        return out[where.ravel()]


@cache
def chemnet() -> ChemNet:
    """ChemNet with the weights of the installed ``fcd_torch``.

    Raises:
        ArgumentError: If the package is missing.
        DataError: If its weight file is missing or foreign.
    """
    import torch

    spec = importlib.util.find_spec("fcd_torch")
    if spec is None or not spec.submodule_search_locations:
        raise ArgumentError(
            "the FCD needs the weights inside the package fcd_torch, which is not installed: "
            "pip install fcd-torch"
        )
    files = sorted(Path(spec.submodule_search_locations[0]).glob("ChemNet*.pt"))
    if not files:
        raise DataError("fcd_torch is installed without its ChemNet weights: reinstall it")
    return ChemNet(torch.load(files[-1], map_location="cpu", weights_only=True))


@dataclass(frozen=True)
class Statistics:
    """Mean ``[k]``, covariance ``[k, k]`` and number of the samples they come from."""

    mean: Float
    cov: Float
    n: int

    @classmethod
    def of(cls, features: NDArray[Any]) -> Statistics:
        """Statistics of features ``[n, k]``, n >= 2."""
        x = np.asarray(features, np.float64)
        if len(x) < 2:
            raise ArgumentError(f"a Frechet distance needs at least 2 samples, found {len(x)}")
        return cls(x.mean(0), np.cov(x, rowvar=False), len(x))


def _root(cov: Float) -> Float:
    values, vectors = np.linalg.eigh(cov)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def _distance(a: Statistics, b: Statistics, root_b: Float) -> float:
    # tr (C1 C2)^(1/2) through the symmetric product, whose eigenvalues are real and >= 0.
    values = np.linalg.eigvalsh(root_b @ a.cov @ root_b)
    cross = np.sqrt(np.clip(values, 0, None)).sum()
    spread = np.trace(a.cov) + np.trace(b.cov) - 2 * cross
    return float(max(np.square(a.mean - b.mean).sum() + spread, 0.0))


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Frechet distance of two Gaussians (not its root)."""
    return _distance(a, b, _root(b.cov))


class Frechet(TwoSample):
    """Frechet distance of features to a fixed reference.

    Args:
        x: Features ``[n, k]``, the sample that is resampled.
        reference: Statistics of the reference.
    """

    def __init__(self, x: NDArray[Any], reference: Statistics) -> None:
        if len(x) < 2:
            raise ArgumentError(f"a Frechet distance needs at least 2 samples, found {len(x)}")
        self.n, self.reference = len(x), reference
        self.rows, counts = np.unique(x, axis=0, return_counts=True)
        self.weights = counts / self.n
        self.root = _root(reference.cov)

    def statistic(self, counts: NDArray[Any]) -> Float:
        """See :meth:`graphdiff.graph.metrics.mmd.TwoSample.statistic`."""
        # Centred on the whole sample, single precision loses nothing in the products.
        shift = self.weights @ self.rows
        rows = (self.rows - shift).astype(np.float32)
        out = []
        for c in np.asarray(counts, np.float64):
            total, keep = c.sum(), c > 0
            part = rows[keep]
            mean = (c[keep] / total) @ part.astype(np.float64)
            weighted = part * np.sqrt(c[keep])[:, None].astype(np.float32)
            second = (weighted.T @ weighted).astype(np.float64)
            cov = (second - total * np.outer(mean, mean)) / (total - 1)
            drawn = Statistics(mean + shift, cov, int(total))
            out.append(_distance(drawn, self.reference, self.root))
        return np.asarray(out)
