"""Graphs with known classes for local clustering: Amazon photo, Coauthor CS, Coauthor physics.

As published with weighted flow diffusion (Yang and Fountoulakis, ICML 2023, s-h-yang/WFD): a line
of neighbours for each node, numbered from 1, and a line with its class. Attributes are not among
the files. Files are found as all data of the package is, see :mod:`graphdiff.data.sources`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.sources import card, checked

__all__ = ["LOCAL_GRAPHS", "LabelledGraph", "load_local_graph", "parse_local_graph"]

LOCAL_GRAPHS = ("amazon_photo", "coauthor_cs", "coauthor_phy")


@dataclass(frozen=True, eq=False)
class LabelledGraph:
    """A graph whose nodes have classes.

    Attributes:
        name: Of the set.
        adjacency: Symmetric, 0 or 1, CSR ``[n, n]``.
        classes: int64 ``[n]``, numbered as published.
        sha256: Checksums by file.
    """

    name: str
    adjacency: sparse.csr_matrix
    classes: NDArray[np.int64]
    sha256: dict[str, str] = field(default_factory=dict)

    def members(self, number: int) -> NDArray[np.int64]:
        """Nodes ``[k]`` of a class.

        Raises:
            ArgumentError: There is no such class.
        """
        found = np.flatnonzero(self.classes == number)
        if not len(found):
            raise ArgumentError(
                f"{self.name} has no class {number}; it has "
                f"{', '.join(map(str, np.unique(self.classes)))}"
            )
        return found


def load_local_graph(name: str, root: str | Path | None = None) -> LabelledGraph:
    """Reads and checks one of the sets.

    Args:
        name: One of :data:`LOCAL_GRAPHS`.
        root: Folder of the files; None = the search path.

    Raises:
        ArgumentError: There is no such set.
        DataError: A file is missing or damaged.
    """
    if name not in LOCAL_GRAPHS:
        raise ArgumentError(
            f"there is no local graph {name!r}: known are {', '.join(LOCAL_GRAPHS)}"
        )
    files = card(name)["files"]
    content = [checked(name, entry, root)[1] for entry in files]
    sums = {entry["file"]: entry["sha256"] for entry in files}
    adjacency, classes = parse_local_graph(*content)
    return LabelledGraph(name, adjacency, classes, sums)


def parse_local_graph(
    neighbours: bytes, classes: bytes
) -> tuple[sparse.csr_matrix, NDArray[np.int64]]:
    """A symmetric matrix and classes from the text of the two files.

    Args:
        neighbours: A line for each node with the numbers of its neighbours, from 1.
        classes: A line for each node with its class.

    Raises:
        DataError: Something is no number, counts differ, a number is out of range, or an edge is
            listed by one of its ends only.
    """
    lines = neighbours.decode("ascii", "replace").splitlines()
    try:
        labels = np.array(classes.split(), np.int64)
        ends = np.array(" ".join(lines).split(), np.int64) - 1
    except ValueError as error:
        raise DataError(
            f"a file of a local graph holds something that is no number: {error}"
        ) from error
    n = len(lines)
    if len(labels) != n:
        raise DataError(f"found {len(labels)} classes for {n} lines of neighbours; one file is cut")
    if len(ends) and (ends.min() < 0 or ends.max() >= n):
        raise DataError(
            f"neighbours run from {ends.min() + 1} to {ends.max() + 1}; expected 1 to {n}"
        )
    counts = np.array([len(line.split()) for line in lines])
    parts = (np.ones(len(ends)), ends, np.concatenate([[0], np.cumsum(counts)]))
    adjacency = sparse.csr_matrix(parts, shape=(n, n))
    adjacency.sum_duplicates()
    adjacency.data[:] = 1.0
    if (adjacency != adjacency.T).nnz:
        raise DataError("an edge is listed by one of its ends only; the file is damaged")
    return adjacency, labels
