r"""Smoothing of a predictor over a graph of sequences (Kirjner et al., 2024, arXiv 2307.00494).

A network that was trained on few measurements is rugged where there are none, and an optimiser ends
on one of its peaks. GGS therefore takes the predictor :math:`f` as a noisy signal on a graph and
denoises it. Nodes are the given sequences and random single substitutions of them; each is linked
to its :math:`k` nearest by Hamming distance :math:`d`, with weight :math:`1 / d`, in both
directions. With :math:`S = D^{-1/2} W D^{-1/2}`, degrees :math:`D` and the normalised Laplacian
:math:`L = I - S`, the smoothed signal minimises :math:`\|y - f\|^2 + \gamma\, y^\top L y`:

.. math:: y = (I + \gamma L)^{-1} f .

All eigenvalues of the matrix lie in :math:`[1, 1 + 2 \gamma]`, so conjugate gradients need a few
products with :math:`S`. What is in :math:`D^{1/2} \mathbf 1`, the null space of :math:`L`, is kept:
:math:`\sum_i \sqrt{d_i}\, y_i = \sum_i \sqrt{d_i}\, f_i`. A new network of the same shape then
learns :math:`y` by mean square error; it is the smoothed predictor.

The paper has 250,000 nodes, :math:`k = \lfloor \sqrt n \rfloor + 1`, :math:`\gamma = 1` and up to
100 epochs; the defaults here fit a few minutes of one core. Two differences from the released code
of GGS: there the weights of links end up as distances, so that the farther of two neighbours counts
more; and ties, of which Hamming distances have many, are broken here by a fixed draw for each pair,
so that neither order nor block size changes the graph.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.sequence.alphabet import PROTEIN
from graphdiff.sequence.hamming import Progress, neighbour_graph, neighbourhood, rows_of
from graphdiff.sequence.oracles import (
    GGS_LETTERS,
    GGSNetwork,
    GGSOracle,
    Predictor,
    predict_sequences,
)
from graphdiff.sequence.sequences import Sequences

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["neighbour_graph", "neighbourhood", "save_oracle", "smooth", "smoothed"]

TOLERANCE = 1e-8


def smooth(values: ArrayLike, graph: csr_matrix, gamma: float = 1.0) -> NDArray[np.float64]:
    r"""Tikhonov-smoothed values :math:`(I + \gamma L)^{-1} f`; see the module docstring.

    Args:
        values: One of each node, ``[n]``.
        graph: Symmetric weights ``[n, n]``, none negative. A node without links keeps its value.
        gamma: Strength, at least 0; 0 changes nothing.

    Raises:
        ArgumentError: Shapes do not fit, a value is not finite, a weight is negative, weights are
            not symmetric, or ``gamma`` is negative.
    """
    from scipy.sparse import csr_matrix, diags
    from scipy.sparse.linalg import LinearOperator, cg

    f = np.asarray(values, np.float64)
    _strength(gamma)
    if f.ndim != 1 or graph.shape != (len(f), len(f)):
        raise ArgumentError(
            f"values have shape {list(f.shape)} and the graph {list(graph.shape)}; expected [n] "
            "and [n, n] of the same nodes"
        )
    if not np.isfinite(f).all():
        bad = int(np.flatnonzero(~np.isfinite(f))[0])
        raise ArgumentError(f"value {bad} is {f[bad]}; leave out nodes without a finite value")
    if graph.nnz and (graph.data.min() < 0 or abs(graph - graph.T).max() > 1e-9):
        raise ArgumentError(
            "the graph has a negative weight, or another weight for the way back; build it with "
            "neighbour_graph"
        )
    degree = np.asarray(graph.sum(1)).ravel()
    root = np.divide(1.0, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    alike = csr_matrix(diags(root) @ graph @ diags(root))
    own = 1.0 + gamma * (degree > 0)
    matrix = LinearOperator(
        graph.shape, matvec=lambda y: own * y.ravel() - gamma * (alike @ y.ravel()), dtype=f.dtype
    )
    found, left = cg(matrix, f, x0=f, rtol=TOLERANCE, atol=0.0)
    if left:
        raise ArgumentError(f"gamma {gamma:g} is too large: the equations were not solved")
    return np.asarray(found, np.float64)


def smoothed(
    predictor: Predictor,
    sequences: Sequences,
    *,
    target: str = "fitness",
    nodes: int = 40_000,
    neighbours: int | None = None,
    gamma: float = 1.0,
    epochs: int = 12,
    batch_size: int = 256,
    lr: float = 1e-3,
    weight_decay: float = 1e-4,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> GGSOracle:
    """A network that learned the smoothed values of a predictor near some sequences.

    Args:
        predictor: What is smoothed; only asked, not trained.
        sequences: What it was trained on: proteins of one length, at least five residues.
        target: Property that is smoothed; the answer calls it ``fitness``.
        nodes: Of the graph.
        neighbours: Of each node; None = the whole part of the root of ``nodes``, plus one.
        gamma: Strength of the smoothing.
        epochs: Passes over the nodes.
        batch_size: Nodes in a step of Adam.
        lr: Its first step size; it falls to zero by a cosine.
        weight_decay: Of Adam, for values that have been standardised.
        seed: Of nodes, ties, weights and batches; the global random state is not touched.
        device: Where distances are computed and the network is trained.
        progress: See :data:`Progress`.

    Returns:
        The smoothed predictor, on the CPU; :func:`save_oracle` writes it.

    Raises:
        ArgumentError: A number is out of range, the target is unknown, or the sequences are no
            proteins of one length.
    """
    column = _column(predictor, target)
    for name, value in {"epochs": epochs, "batch_size": batch_size, "lr": lr}.items():
        if not value > 0:
            raise ArgumentError(f"{name} must be positive, found {value}")
    _strength(gamma)
    if sequences.alphabet != PROTEIN or rows_of(sequences).shape[1] < 5:
        raise ArgumentError(
            f"the network reads proteins of five residues or more, not {sequences.alphabet.name} "
            f"of {sequences.max_length}"
        )
    near = int(nodes**0.5) + 1 if neighbours is None else neighbours
    if not 1 <= near < nodes:
        raise ArgumentError(f"neighbours is {near}, but {nodes} nodes allow 1 to {nodes - 1}")
    where = neighbourhood(sequences, nodes, seed)
    graph = neighbour_graph(where, near, seed=seed, device=device, progress=progress)
    wanted = smooth(predict_sequences(predictor, where)[:, column], graph, gamma)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = GGSNetwork()
    order = torch.tensor([PROTEIN.letters.index(letter) for letter in GGS_LETTERS])
    made = GGSOracle(f"{predictor.name}-smoothed", net.to(device), order)
    how = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay}
    _train(made, rows_of(where), wanted, how, seed, progress)
    net.cpu().eval().requires_grad_(False)
    return made


def _train(
    made: GGSOracle,
    rows: NDArray[Any],
    wanted: NDArray[np.float64],
    how: dict[str, Any],
    seed: int,
    progress: Progress | None,
) -> None:
    """Mean square error on standardised values; their scale then goes into the last layer."""
    centre, scale = float(wanted.mean()), float(wanted.std()) or 1.0
    last = made.net.decoder
    device = last.weight.device
    tokens = torch.from_numpy(rows).to(device)
    goal = torch.from_numpy((wanted - centre) / scale).float().to(device)
    adam = torch.optim.Adam(made.net.parameters(), how["lr"], weight_decay=how["weight_decay"])
    steps = how["epochs"] * -(-len(rows) // how["batch_size"])
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    rng, done = np.random.default_rng(seed), count(1)
    for _ in range(how["epochs"]):
        order = torch.from_numpy(rng.permutation(len(rows))).to(device)
        for part in order.split(how["batch_size"]):
            loss = F.mse_loss(made(tokens[part].long())[:, 0], goal[part])
            adam.zero_grad()
            loss.backward()
            adam.step()
            slower.step()
            if progress is not None:
                progress("train", next(done) / steps)
    with torch.no_grad():
        last.weight.mul_(scale)
        last.bias.mul_(scale).add_(centre)


def save_oracle(oracle: GGSOracle, path: str | Path) -> Path:
    """Write an oracle as :func:`~graphdiff.sequence.oracles.load_oracle` reads it.

    Raises:
        ArgumentError: The name does not end in ``.ckpt``.
    """
    file = Path(path).expanduser()
    if file.suffix != ".ckpt":
        raise ArgumentError(f"{file} must end in .ckpt, by which load_oracle knows it")
    file.parent.mkdir(parents=True, exist_ok=True)
    state = {f"predictor.{name}": value for name, value in oracle.net.state_dict().items()}
    fresh = file.with_suffix(".part")
    torch.save({"state_dict": state}, fresh)
    return fresh.replace(file)


def _column(predictor: Predictor, target: str) -> int:
    if target not in predictor.targets:
        raise ArgumentError(
            f"{predictor.name} predicts {', '.join(predictor.targets)}, not {target!r}; name one "
            "of these as target"
        )
    return predictor.targets.index(target)


def _strength(gamma: float) -> None:
    if not 0 <= gamma < float("inf"):
        raise ArgumentError(f"gamma must be 0 or more, found {gamma}; 0 does not smooth")
