r"""Graphs of sequences: single substitutions as nodes, exact neighbours by Hamming distance.

The graph that GGS smooths a predictor over (Kirjner et al., 2024, arXiv 2307.00494); see
:mod:`graphdiff.sequence.smoothing`. Hamming distances have many ties. Here node :math:`i` prefers,
among equally far :math:`j`, small :math:`(r_i + r_j) \bmod n` with a drawn permutation :math:`r`:
a fixed draw for each pair that differs for all :math:`j`, so that neither the order of nodes nor
the size of blocks changes the graph, and no node is preferred by all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.sequence.sequences import Sequences

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["Progress", "neighbour_graph", "neighbourhood", "rows_of"]

Progress = Callable[[str, float], None]
"""Called as ``progress(stage, share)``: ``graph`` or ``train``, and how much of it is done."""
BLOCK = 1024


def neighbourhood(sequences: Sequences, n: int, seed: int = 0) -> Sequences:
    """The different sequences of a set and random single substitutions of them.

    Substitutions are drawn without replacement, in rounds: one of each sequence in each round, so
    that no sequence has many more than another. Neither order nor repetitions in ``sequences``
    change the answer.

    Args:
        sequences: Where to start, all of one length.
        n: Sequences of the answer, all different.
        seed: Of the draw.

    Returns:
        The given ones first, sorted, then their neighbours.

    Raises:
        ArgumentError: The set is empty, its lengths differ, or ``n`` is below the number of
            different sequences or above that of all neighbours.
    """
    base = np.unique(rows_of(sequences), axis=0)
    letters, (m, length) = len(sequences.alphabet), base.shape
    moves = length * (letters - 1)
    if not m <= n <= m * (moves + 1):
        raise ArgumentError(
            f"n is {n}, but {m} different sequences with up to {moves} substitutions each allow "
            f"{m} to {m * (moves + 1)} nodes; choose n in that range"
        )
    found = dict.fromkeys(row.tobytes() for row in base)
    rounds = min(moves, 2 + 2 * (n - m) // m)
    order = np.random.default_rng(seed).permutation(m)
    while len(found) < n:
        for row in _substitutions(base[order], letters, rounds, seed):
            found.setdefault(row.tobytes())
            if len(found) == n:
                break
        else:
            if rounds == moves:
                raise ArgumentError(
                    f"n is {n}, but the {m} different sequences and all their substitutions are "
                    f"{len(found)}; choose n up to that"
                )
            rounds = min(moves, 2 * rounds)
    tokens = np.frombuffer(b"".join(found), np.uint8).reshape(n, length)
    return Sequences.from_dense(tokens, sequences.alphabet)


def _substitutions(base: NDArray[Any], letters: int, rounds: int, seed: int) -> NDArray[Any]:
    """Different substitutions ``[rounds * m, L]``, round by round; longer draws start alike."""
    m, length = base.shape
    moves = length * (letters - 1)
    picked = np.stack(
        [np.random.default_rng([seed, i]).permutation(moves)[:rounds] for i in range(m)], axis=1
    ).ravel()
    site, shift = picked // (letters - 1), picked % (letters - 1) + 1
    out, rows = np.tile(base, (rounds, 1)), np.arange(rounds * m)
    out[rows, site] = (out[rows, site] + shift) % letters
    return out


def neighbour_graph(
    sequences: Sequences,
    neighbours: int,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    block: int = BLOCK,
    progress: Progress | None = None,
) -> csr_matrix:
    """Links each sequence to its nearest by Hamming distance, exactly, in both directions.

    Args:
        sequences: Nodes, all different and of one length.
        neighbours: Nearest of each node; more may choose it.
        seed: Of the draw that breaks ties.
        device: Where distances are computed.
        block: Rows at a time; memory is about ``40 * block * n`` bytes beside the answer.
        progress: See :data:`Progress`.

    Returns:
        Symmetric weights ``[n, n]``, one over the distance, zero on the diagonal.

    Raises:
        ArgumentError: Lengths differ, a sequence occurs twice, or ``neighbours`` is not in 1 to
            ``n - 1``.
    """
    from scipy.sparse import csr_matrix

    rows = rows_of(sequences)
    n = len(rows)
    if not 1 <= neighbours < n:
        raise ArgumentError(f"neighbours is {neighbours}, but {n} nodes allow 1 to {n - 1}")
    ranks = np.unique(rows, axis=0, return_inverse=True)[1].ravel()
    if len(np.unique(ranks)) < n:
        raise ArgumentError(
            f"{n - len(np.unique(ranks))} of {n} nodes are repetitions; leave them out, as "
            "neighbourhood does"
        )
    draw = np.random.default_rng(seed).permutation(n)[ranks]
    near, far = _nearest(
        rows, len(sequences.alphabet), draw, neighbours, torch.device(device), block, progress
    )
    at = np.arange(0, n * neighbours + 1, neighbours)
    one = csr_matrix((1.0 / far, near, at), shape=(n, n))
    return csr_matrix(one.maximum(one.T))


def _nearest(
    rows: NDArray[np.uint8],
    letters: int,
    draw: NDArray[np.int64],
    neighbours: int,
    device: torch.device,
    block: int,
    progress: Progress | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Nearest nodes of each node and their distances, ``[n * neighbours]``, row by row."""
    n, length = rows.shape
    at = torch.from_numpy(rows.astype(np.int64)).to(device).unsqueeze(2)
    codes = torch.zeros(n, length, letters, device=device).scatter_(2, at, 1.0).flatten(1)
    ties = torch.from_numpy(draw).to(device)
    each = torch.arange(n, device=device)
    near: list[NDArray[Any]] = []
    far: list[NDArray[Any]] = []
    for part in each.split(block):
        key = (length - codes[part] @ codes.T).round().long() * n
        key += (ties[part, None] + ties) % n
        key[each[: len(part)], part] = (length + 1) * n  # not its own neighbour
        found = key.topk(neighbours, largest=False, sorted=False)
        near.append(found.indices.flatten().cpu().numpy())
        far.append((found.values // n).flatten().cpu().numpy())
        if progress is not None:
            progress("graph", (int(part[-1]) + 1) / n)
    return np.concatenate(near), np.concatenate(far)


def rows_of(sequences: Sequences) -> NDArray[np.uint8]:
    """Tokens ``[n, L]``."""
    lengths = np.unique(sequences.lengths)
    if len(lengths) != 1:
        found = f"{lengths[0]} to {lengths[-1]}" if len(lengths) else "none"
        raise ArgumentError(
            f"Hamming distances need sequences of one length, found lengths {found}; give those "
            "of one length"
        )
    return np.asarray(sequences.tokens).reshape(len(sequences), int(lengths[0]))
