"""Steps of a meta-path: relations of a heterogeneous graph, walked forth or back, and their names.

A path in words, ``author-paper-author``, becomes steps by :func:`parse_path`; the paths of a graph
that nobody described are :func:`default_paths`. What a path does as an operator is
:mod:`graphdiff.graph.diffgraph.metapath`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import scipy.sparse as sp

from graphdiff.core.errors import ArgumentError
from graphdiff.data.hetero import HeteroGraph, RelationKey

__all__ = ["Step", "check", "default_paths", "palindrome", "parse_path", "target_paths"]


@dataclass(frozen=True)
class Step:
    """One step of a meta-path: a relation, walked from source to target or back."""

    key: RelationKey
    back: bool = False

    @property
    def ends(self) -> tuple[str, str]:
        """Types where the step starts and ends."""
        return (self.key[2], self.key[0]) if self.back else (self.key[0], self.key[2])

    def matrix(self, graph: HeteroGraph) -> sp.csr_array:
        """Counts of edges along the step."""
        found = graph.relations[self.key]
        return sp.csr_array(found.T) if self.back else found


def parse_path(graph: HeteroGraph, text: str) -> tuple[Step, ...]:
    """Steps of a path in words: types joined by ``-``, as in ``author-paper-author``.

    Where several relations join two types, the one meant stands in brackets between them:
    ``paper-[cites]-paper``; a relation of a type with itself has edges both ways. Names may contain
    ``-`` themselves as long as the path can be read in one way only.

    Raises:
        ArgumentError: A type or relation does not exist, several relations would do, or the path
            can be read in several ways.
    """
    readings = [words for words in _readings(graph, text) if len(words) > 1]
    if not readings:
        what = (
            "ends in a relation; end it with a type"
            if text.endswith("]")
            else f"expected types joined by '-', of {', '.join(graph.sizes)}, relations between "
            f"them in brackets, of {_listed(graph)}"
        )
        raise ArgumentError(f"meta-path {text!r}: {what}")
    possible = [
        words
        for words in readings
        if all(_fitting(graph, a, b, named) for (_, a), (named, b) in pairwise(words))
    ]
    if len(possible) > 1:
        ways = " or as ".join(" - ".join(kind for _, kind in words) for words in possible)
        raise ArgumentError(
            f"meta-path {text!r} can be read as {ways}; give the types names without '-'"
        )
    words = (possible or readings)[0]
    return tuple(_step(graph, text, a, b, named) for (_, a), (named, b) in pairwise(words))


def target_paths(
    graph: HeteroGraph, paths: Sequence[str | Sequence[Step]] | None = None
) -> tuple[tuple[Step, ...], ...]:
    """Steps of paths from the target type to itself, which a classifier can propagate along.

    Args:
        graph: Has the relations.
        paths: Steps, or text for :func:`parse_path`; by default :func:`default_paths`.

    Raises:
        ArgumentError: There is none, one does not exist, or one starts or ends at another type.
    """
    if paths is None:
        return default_paths(graph)
    if isinstance(paths, str) or not paths:
        raise ArgumentError(f"paths is {paths!r}, expected a list of one meta-path or more")
    found = []
    for path in paths:
        steps = parse_path(graph, path) if isinstance(path, str) else tuple(path)
        check(graph, steps)
        ends = steps[0].ends[0], steps[-1].ends[1]
        if ends != (graph.target, graph.target):
            raise ArgumentError(
                f"meta-path {path!r} leads from {ends[0]!r} to {ends[1]!r}; here it must start and "
                f"end at {graph.target!r}, whose nodes have classes"
            )
        found.append(steps)
    return tuple(found)


def default_paths(graph: HeteroGraph) -> tuple[tuple[Step, ...], ...]:
    """Every path from the target type and back the same way, of one relation out or of two.

    Relations of a type with itself are left out of the longer ones. Of the HeCo sets these are the
    published paths: author-paper-author, author-paper-conference-paper-author and
    author-paper-term-paper-author for DBLP, and those of two relations for AMiner and ACM.

    Raises:
        ArgumentError: No relation with edges touches the target type.
    """
    there = [key for key, matrix in graph.relations.items() if matrix.nnz]
    one = [(Step(key),) for key in there if key[0] == key[2] == graph.target]
    out = [s for key in there if key[0] != key[2] for s in (Step(key), Step(key, True))]
    first = [step for step in out if step.ends[0] == graph.target]
    found = [*one, *((step, replace(step, back=not step.back)) for step in first)]
    for step in first:
        for on in out:
            if on.ends[0] == step.ends[1] and on.key != step.key:
                half = (step, on)
                found.append((*half, *(replace(s, back=not s.back) for s in reversed(half))))
    if not found:
        raise ArgumentError(
            f"no relation with edges touches {graph.target!r}; without one there is nothing to "
            "propagate: use features alone"
        )
    # A longer path whose shorter half already returns to the target adds nothing new.
    return tuple(p for p in found if graph.target not in [s.ends[1] for s in p[:-1]] or len(p) == 2)


def palindrome(steps: Sequence[Step]) -> bool:
    """Whether the path is its own reverse; a relation of a type with itself is its own reverse."""
    turned = [replace(s, back=not s.back) for s in reversed(steps)]
    return all(
        a.key == b.key and (a.back == b.back or a.key[0] == a.key[2])
        for a, b in zip(steps, turned, strict=True)
    )


def check(graph: HeteroGraph, steps: Sequence[Step]) -> None:
    """Raise unless the relations are in the graph and each step starts where the last one ended.

    Raises:
        ArgumentError: They do not.
    """
    if not steps:
        raise ArgumentError("a meta-path needs one step or more; found none")
    for step in steps:
        if step.key not in graph.relations:
            raise ArgumentError(f"this graph has no relation {step.key}; it has {_listed(graph)}")
    for a, b in pairwise(steps):
        if a.ends[1] != b.ends[0]:
            raise ArgumentError(f"a step ends at {a.ends[1]!r}, the next starts at {b.ends[0]!r}")


Words = tuple[tuple[str | None, str], ...]
"""Types of a path, each with the relation that is named before it."""


def _readings(graph: HeteroGraph, text: str, first: bool = True) -> Iterator[Words]:
    """All ways to read a text as names of this graph, longer names first."""
    named = [] if first else sorted({key[1] for key in graph.relations}, key=len, reverse=True)
    for name in (None, *named):
        lead = "" if name is None else f"[{name}]-"
        for kind in sorted(graph.sizes, key=len, reverse=True):
            if text == lead + kind:
                yield ((name, kind),)
            elif text.startswith(f"{lead}{kind}-"):
                for rest in _readings(graph, text[len(lead) + len(kind) + 1 :], False):
                    yield ((name, kind), *rest)


def _fitting(graph: HeteroGraph, a: str, b: str, named: str | None) -> list[Step]:
    """Steps from one type to another."""
    both = [Step(key, back) for key in graph.relations for back in (False, True)]
    fits = [s for s in both if s.ends == (a, b) and named in (None, s.key[1])]
    return [s for s in fits if not s.back] if a == b else fits


def _step(graph: HeteroGraph, text: str, a: str, b: str, named: str | None) -> Step:
    fits = _fitting(graph, a, b, named)
    if len(fits) == 1:
        return fits[0]
    if not fits:
        raise ArgumentError(
            f"meta-path {text!r}: no relation{f' {named!r}' if named else ''} joins {a!r} and "
            f"{b!r}; there are {_listed(graph)}"
        )
    names = ", ".join(s.key[1] for s in fits)
    raise ArgumentError(
        f"meta-path {text!r}: {a!r} and {b!r} are joined by {names}; say which, as in "
        f"{a}-[{fits[0].key[1]}]-{b}"
    )


def _listed(graph: HeteroGraph) -> str:
    return ", ".join("-".join(key) for key in graph.relations)
