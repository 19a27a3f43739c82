"""A graph from a folder of tables or arrays: :func:`nodes_of_folder`.

Edges, features and labels each lie in a table (:mod:`graphdiff.data.node_csv`), which names the
nodes, or in an array (:mod:`graphdiff.data.node_arrays`), whose rows are the nodes in the order of
the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from graphdiff.core.errors import DataError
from graphdiff.data.node_arrays import edge_array, feature_array, find_array, label_array
from graphdiff.data.node_csv import (
    Table,
    edge_rows,
    feature_rows,
    find_table,
    label_rows,
    read_table,
)
from graphdiff.data.node_headers import edge_header, feature_header, firm_ends, label_header
from graphdiff.data.node_labels import UNKNOWN, numbered
from graphdiff.data.node_splits import splits_of_folder
from graphdiff.data.nodes import NodeData

__all__ = ["nodes_of_folder"]

WIDTHS = {
    "edges": (2, "source,target"), "features": (2, "an id and one or more numbers"),
    "labels": (1, ""),
}  # fmt: skip
Edges = list[tuple[int, str, str]]


def nodes_of_folder(folder: Path) -> NodeData:
    """A graph from ``edges``, and ``features``, ``labels`` and ``splits`` where there are any.

    Raises:
        DataError: A file cannot be read, or files contradict each other.
    """
    found = _Files.of(folder)
    notes: dict[str, Any] = {}
    edges = found.edges(notes)
    place, features, columns = found.features(edges, notes)
    labels = found.labels(edges, place, notes)
    found.join(edges, place)
    y, classes = numbered([*labels, *[None] * (len(place) - len(labels))])
    if "labels" in found.where and (absent := int((y == UNKNOWN).sum())):
        notes["unlabelled"] = absent
    if "NA" in classes:
        notes["labels"] = "'NA' is a class; leave a label empty where it is not known"
    pairs = np.array([[place[a], place[b]] for _, a, b in edges], np.int64).reshape(-1, 2).T
    splits = splits_of_folder(folder, place, torch.from_numpy(y), notes)
    return NodeData.of(
        folder.resolve().name, pairs, features, y, splits, classes=classes, ids=tuple(place),
        columns=columns, notes=notes,
    )  # fmt: skip


@dataclass(frozen=True)
class _Files:
    """The files of a folder.

    Attributes:
        where: Path of each, by what it holds.
        tables: Rows of those that are tables; the others are arrays.
    """

    where: dict[str, Path]
    tables: dict[str, Table]

    @classmethod
    def of(cls, folder: Path) -> _Files:
        where = {s: p for s in WIDTHS if (p := find_table(folder, s) or find_array(folder, s))}
        tables = {
            s: read_table(path, *WIDTHS[s])
            for s, path in where.items()
            if path.suffix not in (".npy", ".npz")
        }
        return cls(where, tables)

    def below(self, stem: str) -> set[str]:
        """Ids of a table below its first line; none where there is no table."""
        return self.tables[stem].below() if stem in self.tables else set()

    def edges(self, notes: dict[str, Any]) -> Edges:
        """Line and ends of each edge."""
        if "edges" not in self.tables:
            return edge_array(self.where["edges"])
        table = self.tables["edges"]
        # With features, an end that is not among them is refused: there is no need to guess.
        others: set[str] = set() if "features" in self.where else self.below("labels")
        edges, more = edge_rows(table, edge_header(table, others, notes))
        if more:
            notes["edge_columns"] = f"{table.path.name}: columns after the second were ignored"
        return edges

    def features(
        self, edges: Edges, notes: dict[str, Any]
    ) -> tuple[dict[str, int], NDArray[np.float32] | None, tuple[str, ...]]:
        """Place of each id, features, and names of the columns; nothing without a file."""
        if "features" not in self.where:
            return {}, None, ()
        if "features" not in self.tables:
            features = feature_array(self.where["features"])
            return _rows(len(features)), features, ()
        table, below = self.tables["features"], self.below("features")
        others = firm_ends(edges, below | self.below("labels")) | self.below("labels")
        if "labels" in self.tables:
            first = self.tables["labels"]
            if not label_header(first, others | below, {}):
                others = others | {first.rows[0][1][0]}
        ids, features, columns = feature_rows(table, feature_header(table, others, notes))
        return {name: k for k, name in enumerate(ids)}, features, columns

    def labels(
        self, edges: Edges, place: dict[str, int], notes: dict[str, Any]
    ) -> Sequence[str | None]:
        """Class of each node, in order; without features the labels say which nodes there are."""
        path, fixed = self.where.get("labels"), "features" in self.where
        if path is None:
            notes["labels"] = "none were given: the graph can be predicted on, not learned from"
            return []
        if "labels" not in self.tables:
            found = label_array(path)
            if fixed and len(found) != len(place):
                raise DataError(
                    f"{path} holds {len(found)} labels, but there are {len(place)} nodes; give "
                    "one for each, -1 where it is not known"
                )
            if not fixed:
                place.update(_rows(len(found)))
            return found
        table = self.tables["labels"]
        others = set(place) if fixed else {end for _, *ends in edges for end in ends}
        lines, classes = label_rows(table, label_header(table, others, notes))
        for name, line in lines.items():
            if name not in place and fixed:
                raise table.error(line, f"node {name!r} is not among the features; add it there")
            place.setdefault(name, len(place))
        return [classes.get(name) for name in place]

    def join(self, edges: Edges, place: dict[str, int]) -> None:
        """Give a place to ends that no other file lists.

        Raises:
            DataError: There are features, or labels by row, so that no node can be added.
        """
        rows = "labels" in self.where and "labels" not in self.tables
        among = "features" if "features" in self.where else "labels" if rows else ""
        for line, *ends in edges:
            for name in ends:
                if among and name not in place:
                    hint = "; call the columns source,target if this is a header"
                    raise DataError(
                        f"{self.where['edges']}, line {line}: node {name!r} is not among the "
                        f"{among}; add it{hint if line == 1 else ''}"
                    )
                place.setdefault(name, len(place))


def _rows(n: int) -> dict[str, int]:
    """Place of each row, which is called by its number."""
    return {str(k): k for k in range(n)}
