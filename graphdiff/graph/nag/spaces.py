r"""Published search spaces: NAS-Bench-201, MobileNetV3 (OFA), NAS-Bench-Macro, and free DAGs.

**NAS-Bench-201** (Dong and Yang, 2020, arXiv 2001.00326): a cell of four tensors, one of five
operations on each of its six edges. As in D-VAE and DiffusionNAG operations become nodes: places
are the input, the operations on :math:`0\to1, 0\to2, 1\to2, 0\to3, 1\to3, 2\to3`, and the output;
an operation reads every operation that ends where it begins. 15,625 cells. What a cell computes is
a formal sum, in which ``none`` is zero and ``skip_connect`` the identity; cells are isomorphic, and
have one key, if the published form of their sums is the same:

.. math:: f_k = \sum_{j < k} o_{jk}(f_j), \qquad f_0 = x .

**MobileNetV3** of Once-for-all (Cai et al., 2020, arXiv 1908.09791): five stages of up to four
blocks, each a kernel size of 3, 5 or 7 and an expansion of 3, 4 or 6. A stage has two to four
blocks, and a skipped block is followed by no other in its stage.

**NAS-Bench-Macro** (Su et al., 2021, arXiv 2103.11922): eight layers, each identity, or an inverted
residual block of expansion and kernel 3, 3 or 6, 5.

**Free DAGs**: types and edges are both searched; every place but the first reads something, and
every place but the last is read.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ConfigError
from graphdiff.graph.nag.space import Architectures, SearchSpace, chain

__all__ = ["DAG", "MobileNetV3", "NASBench201", "NASBenchMacro", "find_space", "space_names"]

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))
"""Edges of each path from input to output."""


def _cell_wiring() -> NDArray[np.bool_]:
    wires = np.zeros((8, 8), bool)
    for i, (a, b) in enumerate(EDGES):
        wires[0, i + 1] |= a == 0
        wires[i + 1, 7] |= b == 3
        for j, (c, _) in enumerate(EDGES):
            wires[i + 1, j + 1] |= b == c
    return wires


class NASBench201(SearchSpace):
    """Cells of NAS-Bench-201 as graphs of eight nodes; see the module docstring."""

    name = "nasbench201"
    types = ("input", "output", *OPERATIONS)
    choices = ((0,), *((2, 3, 4, 5, 6),) * 6, (1,))
    wiring = _cell_wiring()

    def cells(self, edge_ops: NDArray[Any]) -> Architectures:
        """Cells of operations ``[m, 6]`` (0 to 4 in the published order) on the six edges."""
        edge_ops = np.asarray(edge_ops, np.int8)
        first, last = np.zeros((len(edge_ops), 1), np.int8), np.ones((len(edge_ops), 1), np.int8)
        return self.wired(np.concatenate([first, edge_ops + 2, last], 1))

    def text(self, arch: Architectures) -> str:
        """The published string, as ``|nor_conv_3x3~0|+|none~0|skip_connect~1|+|…|``."""
        ops = arch.ops[0]
        name = {edge: self.types[ops[i + 1]] for i, edge in enumerate(EDGES)}
        rows = ["".join(f"|{name[a, b]}~{a}" for a in range(b)) + "|" for b in (1, 2, 3)]
        return "+".join(rows)

    def parse(self, text: str) -> Architectures:
        """The inverse of :meth:`text`.

        Raises:
            ConfigError: It is no such string.
        """
        try:
            rows = [row.strip("|").split("|") for row in text.split("+")]
            pairs = {(b + 1, int(p.split("~")[1])): p.split("~")[0] for b, row in enumerate(rows)
                     for p in row}  # fmt: skip
            ops = [OPERATIONS.index(pairs[b, a]) for a, b in EDGES]
        except (ValueError, KeyError, IndexError) as error:
            raise ConfigError(
                f"{text!r} is no cell of NAS-Bench-201, expected as "
                "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|none~2|"
            ) from error
        return self.cells(np.array([ops]))

    def key(self, arch: Architectures) -> Hashable:
        """The published form of the sum that the cell computes; 6,466 are different.

        It tells sums apart whose terms are grouped differently; :meth:`function` does not.
        """
        return _formula(tuple(arch.ops[0].tolist()), False)

    def function(self, arch: Architectures) -> str:
        """The sum itself, zeros dropped and all terms in order; 4,930 are different."""
        return _formula(tuple(arch.ops[0].tolist()), True)

    def features(self, archs: Architectures) -> list[NDArray[np.float64]]:
        """One-hot operations, how often each string of operations runs to the output, counts."""
        vocabulary = self._vocabulary
        counts = np.zeros((len(archs), len(vocabulary)))
        for row, ops in enumerate(archs.ops.tolist()):
            for text in _strings(tuple(ops)):
                if -1 not in text:  # undecided
                    counts[row, vocabulary[text]] += 1
        decided = archs.ops[:, 1:7] >= 2
        hot = np.eye(5)[np.clip(archs.ops[:, 1:7] - 2, 0, 4)] * decided[..., None]
        hot = hot.reshape(len(archs), -1)
        totals = np.stack([(archs.ops[:, 1:7] == k).sum(1) for k in range(2, 7)], 1)
        return [hot, counts, totals.astype(float)]

    @cached_property
    def _vocabulary(self) -> dict[tuple[int, ...], int]:
        found = self.everything()
        assert found is not None
        texts = sorted({text for ops in found.ops.tolist() for text in _strings(tuple(ops))})
        return {text: k for k, text in enumerate(texts)}

    def module(self, arch: Architectures, **shape: Any) -> Any:
        """A trainable network of the cell, see :class:`graphdiff.graph.nag.cell.CellNetwork`."""
        from graphdiff.graph.nag.cell import CellNetwork

        return CellNetwork(self, arch, **shape)


@lru_cache(maxsize=20_000)
def _formula(ops: tuple[int, ...], flat: bool) -> str:
    """``f_3`` as a sum of terms ``(argument)@operation`` in order; ``0`` is the input, ``#`` zero.

    ``flat`` orders the terms of a sum within a sum with the others and drops zeros; as published,
    both stay where they are.
    """
    made = [["0"]]
    for k in (1, 2, 3):
        terms: list[str] = []
        for i, (a, b) in enumerate(EDGES):
            if b != k:
                continue
            op, value = ops[i + 1], "+".join(made[a])
            if op == 2 or value == "#":
                terms += [] if flat else ["#"]
            elif op == 3:
                terms += made[a] if flat else [value]
            else:
                terms.append(f"({value})@{OPERATIONS[op - 2]}")
        made.append(sorted(terms) or ["#"])
    return "+".join(made[3])


@lru_cache(maxsize=20_000)
def _strings(ops: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Operations along each path that is not cut, identities left out."""
    found = []
    for path in PATHS:
        along = [ops[edge + 1] for edge in path]
        if 2 not in along:
            found.append(tuple(op for op in along if op != 3))
    return tuple(found)


class MobileNetV3(SearchSpace):
    """MobileNetV3 sub-networks of Once-for-all: 20 slots; see the module docstring."""

    name = "mobilenetv3"
    types = (*(f"k{k}_e{e}" for k in (3, 5, 7) for e in (3, 4, 6)), "skip")
    blank = 9
    choices = tuple(tuple(range(9 + (slot % 4 > 1))) for slot in range(20))
    wiring = chain(20)

    def rules(self, archs: Architectures) -> NDArray[np.bool_]:
        """A fourth block of a stage only after a third."""
        skipped = (archs.ops == self.blank).reshape(len(archs), 5, 4)
        good: NDArray[np.bool_] = ~(skipped[:, :, 2] & ~skipped[:, :, 3]).any(1)
        return good

    def subnets(
        self, kernel: NDArray[Any], expand: NDArray[Any], depth: NDArray[Any]
    ) -> Architectures:
        """Architectures of kernel sizes and expansions ``[m, 20]`` and depths ``[m, 5]``."""
        kind = 3 * ((np.asarray(kernel) - 3) // 2) + np.searchsorted([3, 4, 6], expand)
        there = (np.arange(20) % 4) < np.repeat(depth, 4, axis=1)
        return self.wired(np.where(there, kind, self.blank))


class NASBenchMacro(SearchSpace):
    """Networks of NAS-Bench-Macro: eight layers; see the module docstring."""

    name = "macro"
    types = ("identity", "mb3_k3", "mb6_k5")
    choices = ((0, 1, 2),) * 8
    wiring = chain(8)


class DAG(SearchSpace):
    """Graphs of eight nodes of four types whose edges are searched; see the module docstring."""

    name = "dag"
    types = ("a", "b", "c", "d")
    choices: ClassVar[tuple[tuple[int, ...], ...]] = ((0, 1, 2, 3),) * 8

    def rules(self, archs: Architectures) -> NDArray[np.bool_]:
        """Every place but the first reads, every place but the last is read."""
        reads, read = np.any(archs.wires, axis=1)[:, 1:], np.any(archs.wires, axis=2)[:, :-1]
        good: NDArray[np.bool_] = np.all(reads, axis=1) & np.all(read, axis=1)
        return good


_SPACES: dict[str, type[SearchSpace]] = {
    space.name: space for space in (NASBench201, MobileNetV3, NASBenchMacro, DAG)
}


def space_names() -> tuple[str, ...]:
    """Spaces that are known by name."""
    return tuple(_SPACES)


def find_space(place: str) -> SearchSpace:
    """A space by name, or your own as ``FILE.py:CLASS`` (or ``MODULE:CLASS``).

    Raises:
        ConfigError: There is no such space, or it lacks an attribute.
    """
    if place in _SPACES:
        return _SPACES[place]()
    if ":" not in place:
        raise ConfigError(
            f"unknown search space {place!r}: known are {', '.join(_SPACES)}; or give your own as "
            "FILE.py:CLASS"
        )
    from graphdiff.finetune.specs import OwnScore

    made = OwnScore(place).function
    if not (isinstance(made, type) and issubclass(made, SearchSpace)):
        raise ConfigError(f"{place} is no subclass of graphdiff.graph.nag.space.SearchSpace")
    for name in ("name", "types", "choices"):
        if not hasattr(made, name):
            raise ConfigError(f"the search space {place} has no attribute {name!r}; set it")
    return made()
