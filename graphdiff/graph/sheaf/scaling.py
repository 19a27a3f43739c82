"""Features of graphs that are predicted later, as the network has learned them.

A network knows a feature by the place of its column and by its scale. :class:`Columns` says which
feature is where and brings the columns of another graph into that order. Where a graph has no
features, each node has its own indicator; such a column belongs to an id, not to a row of a file.

Of the scaling, ``rows`` divides each row by its sum, for words; ``columns`` standardises each
column by the mean and the spread of the training graph, for measurements; ``none`` leaves them.
:func:`choose_scaling` takes rows where no value is negative and at least half are zero.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.data.nodes import NodeData

__all__ = ["Columns", "Scaling", "choose_scaling", "scale_of", "scaled"]

Scaling = Literal["rows", "columns", "none"]


@dataclass(frozen=True)
class Columns:
    """What the columns of the features of the training graph are.

    Attributes:
        names: Of the features; empty where they have none.
        ids_sha256: Hash of the ids of the nodes where each has its own indicator instead of
            features; else empty.
    """

    names: tuple[str, ...] = ()
    ids_sha256: str = ""

    @classmethod
    def of(cls, data: NodeData) -> Columns:
        """Those of a graph."""
        if not data.indicators:
            return cls(data.columns)
        ids = [data.node_name(k) for k in _by_id(data)]
        return cls((), hashlib.sha256(json.dumps(ids).encode()).hexdigest())

    def arrange(self, data: NodeData, features: int, own: bool) -> Tensor:
        """Features ``[n, f]`` of a graph, its columns in the order of the training.

        Args:
            data: The graph.
            features: Columns of the training graph.
            own: Whether it has the edges of the training graph.

        Raises:
            ArgumentError: It has other columns, or indicators of other nodes.
        """
        if data.indicators or self.ids_sha256:
            return self._indicators(data, features, own)
        found = data.features.shape[1]
        strange = _strange(self.names, data.columns)
        if found != features or strange:
            raise ArgumentError(
                f"{data.name} has {found} features, the model was trained with {features}"
                f"{strange}; give a graph with the same columns"
            )
        if not self.names or not data.columns or self.names == data.columns:
            return data.features
        mine, theirs = (sorted(range(found), key=c.__getitem__) for c in (self.names, data.columns))
        place = dict(zip(mine, theirs, strict=True))
        return data.features[:, [place[k] for k in range(found)]]

    def _indicators(self, data: NodeData, features: int, own: bool) -> Tensor:
        if not self.ids_sha256:
            # Cards from before the hash say of indicators only how many there were.
            if own and data.features.shape[1] == features:
                return data.features
            raise ArgumentError(
                f"{data.name} has no features, the model was trained with {features}; give a graph "
                "with the same columns (features.csv)"
            )
        if not data.indicators or Columns.of(data).ids_sha256 != self.ids_sha256:
            raise ArgumentError(
                "the model was trained on a graph without features, where nodes are known by their "
                f"ids alone; {data.name} has {'other ids' if data.indicators else 'features'}. "
                "Train with features (features.csv) to predict on other graphs"
            )
        return data.features[:, _by_id(data)]


def _by_id(data: NodeData) -> list[int]:
    """Nodes in the order of their ids, shorter ones first: numbers are in their own order then."""
    names = [data.node_name(k) for k in range(data.n)]
    return sorted(range(data.n), key=lambda k: (len(names[k]), names[k]))


def _strange(wanted: Sequence[str], found: Sequence[str]) -> str:
    """Which named columns are missing and which are new; empty where one side has no names."""
    if not wanted or not found:
        return ""
    old, new = Counter(wanted), Counter(found)
    some = {"missing": [*(old - new).elements()], "new": [*(new - old).elements()]}
    return "".join(
        f"; {word}: {', '.join(names[:4])}{' …' * (len(names) > 4)}"
        for word, names in some.items()
        if names
    )


def choose_scaling(features: Tensor) -> Scaling:
    """``rows`` where nothing is negative and at least half is zero (words), else ``columns``."""
    few = not features.numel() or float((features == 0).float().mean()) >= 0.5
    return "rows" if few and not bool((features < 0).any()) else "columns"


def scale_of(features: Tensor, scaling: Scaling) -> dict[str, Tensor]:
    """What the scaling of other graphs needs to know of this one."""
    if scaling != "columns":
        return {}
    spread = features.std(0, unbiased=False)
    return {"mean": features.mean(0), "spread": spread.where(spread > 0, torch.ones(()))}


def scaled(x: Tensor, scaling: Scaling, scale: Mapping[str, Tensor]) -> Tensor:
    """Features ``[n, f]`` as the network sees them; ``scale`` is from :func:`scale_of`."""
    if scaling == "columns":
        return (x - scale["mean"]) / scale["spread"]
    if scaling == "rows":
        total = x.sum(1, keepdim=True)
        return x / total.where(total != 0, torch.ones(()))
    return x
