"""What becomes of finished architectures: items, files, conversions, pictures, scores.

``samples.npz`` holds the packed samples, valid or not; ``architectures.json`` one record for each
with its id, whether it is valid, its types and its wires.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.graph.nag.architecture import Architecture
from graphdiff.graph.nag.space import Architectures, SearchSpace

if TYPE_CHECKING:
    from graphdiff.task import Samples

__all__ = ["ArchitectureOutput"]

KINDS = ("dict", "networkx", "module")


@dataclass(frozen=True)
class ArchitectureOutput:
    """Results of a task on architectures of ``space``."""

    space: SearchSpace

    def items(self, raw: Architectures) -> list[Architecture]:
        """One by one."""
        return [Architecture(self.space, one) for one in raw]

    def join(self, raws: Sequence[Architectures], order: Sequence[int]) -> Architectures:
        """Concatenate and reorder."""
        n = self.space.nodes
        if not len(raws):
            return Architectures(np.zeros((0, n), np.int8), np.zeros((0, n, n), bool))
        return Architectures.join(raws)[np.asarray(order, np.int64)]

    def write(self, samples: Samples, out: Path) -> list[Path]:
        """``samples.npz`` and ``architectures.json`` under ``out``; return the files."""
        out.mkdir(parents=True, exist_ok=True)
        packed, plain = out / "samples.npz", out / "architectures.json"
        np.savez_compressed(packed, ops=samples.raw.ops, wires=samples.raw.wires)
        records = [
            {"id": int(k), "valid": item.valid, **item.to_dict()}
            for k, item in zip(samples.ids, samples.items, strict=True)
        ]
        plain.write_text(json.dumps(records, indent=1) + "\n", "utf-8")
        return [packed, plain]

    def formats(self) -> Mapping[str, str]:
        """Files that hold every sample, by suffix."""
        return {".json": "architectures.json", ".npz": "samples.npz"}

    def convert(self, samples: Samples, kind: str) -> Sequence[Any]:
        """Samples as plain values, networkx graphs or torch modules.

        Raises:
            ArgumentError: The kind is unknown, or the space builds no modules.
        """
        if kind not in KINDS:
            known = ", ".join((*KINDS, "state"))
            raise ArgumentError(f"cannot convert architectures to {kind!r}; choose {known}")
        makers = {
            "dict": Architecture.to_dict,
            "networkx": Architecture.to_networkx,
            "module": Architecture.module,
        }
        return [makers[kind](item) for item in samples.items]

    def draw(self, samples: Samples, path: Path, *, count: int = 25) -> Path:
        """A grid of architectures as PNG."""
        from graphdiff.graph.nag.draw import draw_architectures

        return draw_architectures(self.space, samples.raw, path, count=count)

    def scores(self) -> Mapping[str, Callable[[Any], float]]:
        """Counts of any architecture, and what the table of the space says, if it is there."""
        found: dict[str, Callable[[Any], float]] = {"nodes": _nodes, "edges": _edges}
        from graphdiff.graph.nag.tables import load_table, table_names

        if self.space.name in table_names():
            try:
                table = load_table(self.space.name)
            except DataError:  # without the files there are no measurements to ask for
                return found
            found |= {name: _Measured(table, name) for name in table.names}
        return found


@dataclass(frozen=True)
class _Measured:
    table: Any
    name: str

    def __call__(self, item: Architecture) -> float:
        return float(self.table.value(self.name, item.packed)[0])


def _nodes(item: Architecture) -> float:
    """Places that hold a node."""
    return float(item.to_networkx().number_of_nodes())


def _edges(item: Architecture) -> float:
    """Wires between nodes."""
    return float(item.to_networkx().number_of_edges())
