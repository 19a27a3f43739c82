r"""Measured tables of search spaces: what every architecture of a benchmark reaches and costs.

``nasbench201``
    All 15,625 cells in the published order (Dong and Yang, 2020, arXiv 2001.00326), after 200
    epochs, mean over seeds: ``cifar10``, ``cifar100``, ``imagenet16_120``, test accuracy in %,
    higher is better. ``latency:DEVICE`` in milliseconds, lower is better, on 27 devices and batch
    sizes (Lee et al., 2021, HELP, arXiv 2106.08630). Isomorphic cells are rows of their own.
``macro``
    All 6,561 networks of NAS-Bench-Macro (Su et al., 2021, arXiv 2103.11922): ``cifar10``, the
    test accuracy in % as the mean of the three seeds ``cifar10:0``, ``cifar10:1``, ``cifar10:2``;
    ``params`` (weights) and ``flops`` (multiply-adds), lower is better.
``mobilenetv3``
    5,000 sub-networks of Once-for-all with ``latency:DEVICE`` in milliseconds on 12 GPU settings
    (HELP), each at one image size, ``resolution`` in pixels. They are all different, even without
    the resolution; latency depends on both, so compare architectures of one resolution, or let a
    predictor see it. Accuracies are not in it.
``nasbench201-meta`` (:func:`load_meta`)
    4,630 triples (task, cell, accuracy in %): cells trained on small tasks of 20 ImageNet classes
    each (Lee et al., 2021, MetaD2A, arXiv 2107.00860), as used by DiffusionNAG (An et al., 2024,
    arXiv 2305.16943). Types are numbered as those of
    :class:`~graphdiff.graph.nag.spaces.NASBench201`: input, output, none, skip, 1 x 1, 3 x 3, pool.

Files are found as all data of the package is, see :mod:`graphdiff.data.sources`; pickles are never
read. The checksum of an ``.npz`` is that of the arrays in it, however they are compressed.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.sources import card, check_sha256, find, missing, read_bytes
from graphdiff.graph.nag.space import Architectures, SearchSpace
from graphdiff.graph.nag.spaces import MobileNetV3, NASBench201, NASBenchMacro

__all__ = ["MetaTriples", "Table", "load_meta", "load_table", "table_names"]

Float = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]
Root = str | Path | None


@dataclass(frozen=True)
class Table:
    """Architectures of a space with what was measured of each; your own works as well.

    Attributes:
        space: Where the architectures are from.
        archs: ``m`` different architectures.
        metrics: Values ``[m]`` by name, in the units of the module docstring.
        sha256: Checksums of the content of the files, by file.

    Raises:
        ArgumentError: A metric is not ``[m]``, or an architecture occurs twice.
    """

    space: SearchSpace
    archs: Architectures
    metrics: Mapping[str, Float]
    sha256: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in self.metrics.items():
            if np.shape(values) != (len(self),):
                raise ArgumentError(
                    f"metric {name!r} has the shape {list(np.shape(values))}, expected "
                    f"[{len(self)}]: one number for each architecture"
                )
        if len(self._row) < len(self):
            raise ArgumentError(
                f"{len(self) - len(self._row)} architectures occur more than once in a table of "
                f"{self.space.name!r}; join their rows first, for example by their mean"
            )

    def __len__(self) -> int:
        """Number of architectures ``m``."""
        return len(self.archs)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the metrics."""
        return tuple(self.metrics)

    @cached_property
    def _row(self) -> dict[bytes, int]:
        return {key: row for row, key in enumerate(self._keys(self.archs))}

    def _keys(self, archs: Architectures) -> list[bytes]:
        """Types, and edges where they are searched, as bytes."""
        parts = [np.ascontiguousarray(archs.ops, np.int8)]
        if self.space.wiring is None:
            parts.append(np.packbits(archs.wires.reshape(len(archs), -1), axis=1).view(np.int8))
        return [row.tobytes() for row in np.concatenate(parts, 1)]

    def has(self, archs: Architectures) -> NDArray[np.bool_]:
        """Which architectures are in the table, ``[b]``."""
        return self._find(archs) >= 0

    def lookup(self, archs: Architectures) -> NDArray[np.int64]:
        """Rows of architectures as they stand (isomorphic ones have their own), int64 ``[b]``.

        Raises:
            ArgumentError: One is not in the table; it is shown.
        """
        rows = self._find(archs)
        if (rows < 0).any():
            first = int(np.flatnonzero(rows < 0)[0])
            raise ArgumentError(
                f"{int((rows < 0).sum())} of {len(rows)} architectures are not in the table of "
                f"{self.space.name!r} ({len(self):,} rows), number {first} for one: "
                f"{self.space.describe(archs[first])['nodes']}; keep those that has() knows"
            )
        return rows

    def _find(self, archs: Architectures) -> NDArray[np.int64]:
        if archs.ops.shape[1:] != self.archs.ops.shape[1:]:
            raise ArgumentError(
                f"expected architectures of {self.archs.ops.shape[1]} places, as "
                f"{self.space.name!r} has, found {archs.ops.shape[1]}"
            )
        rows = np.array([self._row.get(key, -1) for key in self._keys(archs)], np.int64)
        if self.space.wiring is not None:
            rows[(archs.wires != self.space.wiring).any((1, 2))] = -1
        return rows

    def value(self, name: str, archs: Architectures) -> Float:
        """A metric of architectures, float64 ``[b]``.

        Raises:
            ArgumentError: There is no such metric, or an architecture is not in the table.
        """
        if name not in self.metrics:
            raise ArgumentError(
                f"the table of {self.space.name!r} has no metric {name!r}; it has "
                f"{', '.join(_closest(name, self.names))}"
            )
        return np.asarray(self.metrics[name], np.float64)[self.lookup(archs)]


@dataclass(frozen=True)
class MetaTriples:
    """Cells of NAS-Bench-201 trained on many small tasks.

    Attributes:
        archs: Cells; 1,553 of the 4,630 are different.
        accuracy: Of the cell on its task, in %, float64 ``[m]``.
        task: Number of the task below 5,000, int64 ``[m]``; 3,031 of them occur.
        costs: ``params``, ``flops`` and ``latency``, each divided by the largest of the space,
            float64 ``[m]``.
        sha256: Checksum of the content of the file, by file.
    """

    archs: Architectures
    accuracy: Float
    task: NDArray[np.int64]
    costs: Mapping[str, Float]
    sha256: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of triples ``m``."""
        return len(self.archs)

    @property
    def metrics(self) -> dict[str, Float]:
        """Accuracy and costs by name, as those of a :class:`Table`."""
        return {"accuracy": self.accuracy, **self.costs}


def _closest(name: str, known: tuple[str, ...]) -> list[str]:
    """Known names, those of the same kind (before a colon) and spelling first."""
    kind = name.partition(":")[0]
    return sorted(
        known,
        key=lambda other: (
            other.partition(":")[0] != kind,
            -SequenceMatcher(None, name, other).ratio(),
        ),
    )


# -- files ----------------------------------------------------------------------------------------


def _content(name: str, number: int, root: Root, sums: dict[str, str]) -> bytes:
    """Content of a file of a card, checked; its checksum is noted in ``sums``."""
    entry = card(name)["files"][number]
    path = find([entry["file"]], root)
    if path is None:
        raise missing(name, [entry["file"]], root)
    data = read_bytes(path)
    if path.suffix != ".npz":
        check_sha256(path, data, entry["sha256"])
        sums[entry["file"]] = entry["sha256"]
    return data


def _arrays(name: str, number: int, root: Root, sums: dict[str, str]) -> Arrays:
    """Arrays of an ``.npz`` file of a card, checked."""
    entry = card(name)["files"][number]
    data = _content(name, number, root, sums)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{entry['file']} is damaged or holds more than plain arrays ({error}): delete it and "
            f"obtain it again: {card(name)['obtain']}"
        ) from error
    check_sha256(entry["file"], array_bytes(arrays), entry["sha256"])
    sums[entry["file"]] = entry["sha256"]
    return arrays


def array_bytes(arrays: Arrays) -> bytes:
    """What the checksum of named arrays is made of: names in order, types, shapes, values."""
    parts = []
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        little = array.astype(array.dtype.newbyteorder("<"))
        parts += [f"{key}|{little.dtype.str}|{little.shape}|".encode(), little.tobytes()]
    return b"".join(parts)


# -- tables ---------------------------------------------------------------------------------------


def _nasbench201(root: Root) -> Table:
    space, sums = NASBench201(), dict[str, str]()
    text = _content("nasbench201", 0, root, sums).decode("utf-8")
    rows = list(csv.reader(io.StringIO(text)))[1:]
    archs = Architectures.join([space.parse(row[3]) for row in rows])
    sets = ("cifar10", "cifar100", "imagenet16_120")
    metrics = {name: np.array([float(row[k]) for row in rows]) for k, name in enumerate(sets)}
    for device, values in _arrays("nasbench201", 1, root, sums).items():
        metrics[f"latency:{device}"] = values.astype(np.float64)
    return Table(space, archs, metrics, sums)


def _macro(root: Root) -> Table:
    space, sums = NASBenchMacro(), dict[str, str]()
    found = json.loads(_content("nasbench-macro", 0, root, sums))
    archs = space.wired(np.array([[int(digit) for digit in text] for text in found], np.int8))
    seeds = np.array([row["test_acc"] for row in found.values()], np.float64)
    metrics = {"cifar10": seeds.mean(1)}
    metrics |= {f"cifar10:{seed}": seeds[:, seed] for seed in range(seeds.shape[1])}
    for name in ("params", "flops"):
        metrics[name] = np.array([float(row[name]) for row in found.values()])
    return Table(space, archs, metrics, sums)


def _mobilenetv3(root: Root) -> Table:
    space, sums = MobileNetV3(), dict[str, str]()
    found = _arrays("ofa-mobilenetv3", 0, root, sums)
    archs = space.subnets(found["ks"], found["e"], found["d"])
    metrics = {
        f"latency:{key.removeprefix('lat_')}": values.astype(np.float64)
        for key, values in found.items()
        if key.startswith("lat_")
    }
    return Table(space, archs, metrics | {"resolution": found["r"].astype(np.float64)}, sums)


_TABLES: dict[str, Callable[[Root], Table]] = {
    "nasbench201": _nasbench201,
    "macro": _macro,
    "mobilenetv3": _mobilenetv3,
}
_CARDS = {"nasbench-macro": "macro", "ofa-mobilenetv3": "mobilenetv3"}


def table_names() -> tuple[str, ...]:
    """Spaces that :func:`load_table` has a table of."""
    return tuple(_TABLES)


def load_table(name: str, root: Root = None) -> Table:
    """The measured table of a space; see the module docstring.

    Args:
        name: ``nasbench201``, ``macro`` or ``mobilenetv3``, or as the data card is called.
        root: Folder of the files; None = the search path.

    Raises:
        ArgumentError: There is no such table.
        DataError: A file is missing or damaged.
    """
    name = _CARDS.get(name, name)
    if name not in _TABLES:
        hint = "; for its triples call load_meta()" if name == "nasbench201-meta" else ""
        raise ArgumentError(f"there is no table {name!r}: known are {', '.join(_TABLES)}{hint}")
    return _TABLES[name](root)


def load_meta(root: Root = None) -> MetaTriples:
    """The meta-training triples of NAS-Bench-201; see the module docstring.

    Args:
        root: Folder of the file; None = the search path.

    Raises:
        DataError: The file is missing or damaged.
    """
    sums: dict[str, str] = {}
    found = _arrays("nasbench201-meta", 0, root, sums)
    return MetaTriples(
        archs=NASBench201().wired(found["ops"]),
        accuracy=found["acc"].astype(np.float64),
        task=found["task"].astype(np.int64),
        costs={name: found[name].astype(np.float64) for name in ("params", "flops", "latency")},
        sha256=sums,
    )
