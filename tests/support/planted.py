"""Graphs like WebKB as files: few nodes, many rare words, edges between different classes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NAMES = ("course", "faculty", "project", "staff", "student")


def planted(
    n: int = 150, words: int = 200, classes: int = 4, seed: int = 0, degree: float = 3.0
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Edges ``[2, m]``, 0/1 words ``[n, words]`` and classes ``[n]``.

    A class is linked to the next one mostly; each class has words that it uses more often, so that
    words alone tell part, and words of the neighbours the rest. Sizes of classes differ. The
    vocabulary does not depend on the seed: two graphs have the same columns.
    """
    rng = np.random.default_rng(seed)
    share = np.arange(classes, 0, -1.0)
    y = rng.choice(classes, n, p=share / share.sum())
    own = np.random.default_rng(99).random((classes, words)) < 0.15
    x = rng.random((n, words)) < np.where(own[y], 0.12, 0.02)
    ends = []
    for _ in range(int(degree * n)):
        u = int(rng.integers(n))
        goal = (y[u] + 1) % classes if rng.random() < 0.85 else int(rng.integers(classes))
        members = np.flatnonzero(y == goal)
        if len(members):
            ends.append((u, int(rng.choice(members))))
    return np.array(ends, np.int64).T, x.astype(np.int64), y.astype(np.int64)


def write_folder(
    folder: Path, edges: NDArray, features: NDArray | None, labels: NDArray, prefix: str = "page-"
) -> Path:
    """The graph as ``edges.csv``, ``features.csv`` and ``labels.csv``, ids as text."""
    folder.mkdir(parents=True, exist_ok=True)
    name = [f"{prefix}{7 * k + 3}" for k in range(len(labels))]
    write(folder / "edges.csv", [["source", "target"], *([name[a], name[b]] for a, b in edges.T)])
    if features is not None:
        rows = ([n, *row] for n, row in zip(name, features.tolist(), strict=True))
        write(folder / "features.csv", [["id", *range(features.shape[1])], *rows])
    known = [[n, NAMES[c]] for n, c in zip(name, labels, strict=True) if c >= 0]
    write(folder / "labels.csv", [["id", "label"], *known])
    return folder


def write(path: Path, rows: list) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path
