r"""Users, items and several kinds of edges between them: view, cart, favourite, buy, ....

One relation is the *target* (what is recommended is what will be bought); the others are
auxiliary. All are binary; where times are known, the last one of an edge is kept.

A validation item is held out for each user with two target edges or more
(:meth:`Behaviours.hold_out`): the last one by time, or a random one. As in the published sets,
where a test item never occurs in any relation of its user, it is removed from *all* relations, or
the auxiliary ones would tell it.

Your own edges come from any sparse matrices (:meth:`Behaviours.of`), or from a csv table
(:func:`graphdiff.data.behaviour_table.read_edges`).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.sources import card, check_sha256, find, missing, read_bytes

__all__ = ["Behaviours", "load_behaviours"]

Pairs = NDArray[np.int64]
NAMES = {"retail-rocket": "diffgraph-retail-rocket", "tmall": "diffgraph-tmall"}
_NONE = np.zeros((0, 2), np.int64)


@dataclass(frozen=True)
class Behaviours:
    """A data set of user-item edges.

    Attributes:
        edges: ``[users, items]`` CSR matrices of ones by relation.
        target: Name of the relation that is predicted.
        test: Pairs ``[m, 2]`` of user and item; no edges of training.
        valid: The same for the selection of settings.
        times: Seconds of the edges by relation, in the order of the entries of ``edges``; relations
            without known times are absent.
        users: What user ``k`` is called; numbers as text by default.
        items: What item ``k`` is called.
        sha256: Checksums of the files it was read from.

    Raises:
        DataError: Shapes differ, there is no target relation, an edge repeats, a pair is out of
            range, or training, validation and test overlap.
    """

    edges: Mapping[str, sparse.csr_matrix]
    target: str
    test: Pairs = field(default_factory=lambda: _NONE)
    valid: Pairs = field(default_factory=lambda: _NONE)
    times: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    users: Sequence[str] = ()
    items: Sequence[str] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.target not in self.edges:
            raise DataError(
                f"no relation {self.target!r}: found {', '.join(self.edges) or 'none'}; name the "
                "one to predict"
            )
        for name, matrix in self.edges.items():
            self._check_relation(name, matrix)
        for split in ("test", "valid"):
            self._check_pairs(split, getattr(self, split))
        both = set(_keys(self.test, self.shape)) & set(_keys(self.valid, self.shape))
        if both:
            raise DataError(
                f"{len(both)} pairs are in validation and in test; remove them from one"
            )
        for what, names, n in (
            ("users", self.users, self.n_users),
            ("items", self.items, self.n_items),
        ):
            if len(names) not in (0, n):
                raise DataError(f"{len(names)} names for {n} {what}; give one for each, or none")

    def _check_relation(self, name: str, matrix: sparse.csr_matrix) -> None:
        if matrix.shape != self.shape:
            raise DataError(
                f"relation {name!r} has shape {matrix.shape}, {self.target!r} has {self.shape}; "
                "give all of them the same users and items"
            )
        if not matrix.has_canonical_format or (matrix.nnz and (matrix.data != 1).any()):
            raise DataError(
                f"relation {name!r} has repeated edges or values other than 1; build it with "
                "Behaviours.of"
            )
        if name in self.times and self.times[name].shape != (matrix.nnz,):
            raise DataError(
                f"{self.times[name].shape} times for {matrix.nnz} edges of {name!r}; give one each"
            )

    def _check_pairs(self, split: str, pairs: Pairs) -> None:
        if pairs.ndim != 2 or pairs.shape[1] != 2:
            raise DataError(f"{split} has shape {list(pairs.shape)}, expected [m, 2]: user, item")
        if len(pairs) and ((pairs < 0) | (pairs >= self.shape)).any():
            raise DataError(
                f"{split} names users or items outside of {self.shape}; correct the numbers"
            )
        keys = _keys(pairs, self.shape)
        if len(np.unique(keys)) < len(keys):
            raise DataError(f"{split} names a pair twice; remove one of them")
        known = self.edges[self.target].tocoo()
        common = np.intersect1d(keys, known.row.astype(np.int64) * self.n_items + known.col)
        if len(common):
            user, item = divmod(int(common[0]), self.n_items)
            raise DataError(
                f"{len(common)} pairs of {split} are edges of {self.target!r} in training, user "
                f"{user} and item {item} for one; splits must not overlap: remove them from one"
            )

    @classmethod
    def of(
        cls, relations: Mapping[str, Any], target: str, test: Any = None, **fields: Any
    ) -> Behaviours:
        """From matrices in any sparse format: entries become ones, repeated ones are joined.

        An entry is an edge if its value is not zero, whether zeros are stored or not.

        Args:
            relations: Sparse matrices by name; values are seconds if they are integers above 1.
            target: The relation that is predicted.
            test: Sparse matrix, or pairs ``[m, 2]``.
            fields: Others of :class:`Behaviours`; ``valid`` as ``test``.

        Raises:
            DataError: A value is negative or NaN, ids are no whole numbers, or see the class.
        """
        edges, times = {}, {}
        for name, matrix in relations.items():
            found = _entries(f"relation {name!r}", matrix)
            seconds = found.data.astype(np.int64) if found.data.dtype.kind in "iu" else None
            if seconds is not None and (not len(seconds) or seconds.max() <= 1):
                seconds = None
            edges[name], known = ones(found.row, found.col, seconds, found.shape)
            if known is not None:
                times[name] = known
        if "valid" in fields:
            fields["valid"] = _pairs("valid", fields["valid"])
        return cls(edges, target, _pairs("test", test), times=times, **fields)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of users and of items."""
        n, m = self.edges[self.target].shape
        return int(n), int(m)

    @property
    def n_users(self) -> int:
        """Number of users."""
        return self.shape[0]

    @property
    def n_items(self) -> int:
        """Number of items."""
        return self.shape[1]

    @property
    def auxiliary(self) -> tuple[str, ...]:
        """Names of the other relations."""
        return tuple(name for name in self.edges if name != self.target)

    @cached_property
    def seen(self) -> sparse.csr_matrix:
        """Pairs with an edge of any relation, as ones."""
        return self.weighted(dict.fromkeys(self.edges, 1.0)).sign()

    def weighted(self, weights: Mapping[str, float]) -> sparse.csr_matrix:
        """The sum of the relations with weights; those that are not named count nothing.

        Raises:
            ArgumentError: A name is unknown, or a weight is negative.
        """
        for name, weight in weights.items():
            if name not in self.edges or not weight >= 0:
                raise ArgumentError(
                    f"weight {weight!r} of {name!r}: expected a number of zero or more for one of "
                    f"{', '.join(self.edges)}"
                )
        total = sparse.csr_matrix(self.shape, dtype=np.float32)
        for name, weight in weights.items():
            total = total + np.float32(weight) * self.edges[name]
        total.eliminate_zeros()
        return sparse.csr_matrix(total)

    def hold_out(self, *, at_least: int = 2, seed: int | None = None) -> Behaviours:
        """The same data with one target edge of each user moved to validation.

        The edge disappears from every relation. It is the last one by time, a random one
        of those bought at that moment; without times, or with a ``seed``, a random one of all.

        Args:
            at_least: Users with fewer target edges keep all of them, and are not validated.
            seed: Of the choice.

        Raises:
            ArgumentError: Pairs are held out already, or ``at_least`` is below 1.
            DataError: No user has that many target edges.
        """
        if len(self.valid) or at_least < 1:
            raise ArgumentError(
                f"{len(self.valid)} pairs are held out already and at_least is {at_least}; call it "
                "once, with 1 or more"
            )
        matrix = self.edges[self.target]
        # A basket is bought at one moment; its items are in the order of their numbers, which tell
        # how popular they are, so that ties must be broken at random.
        tie = np.random.default_rng(seed or 0).permutation(matrix.nnz)
        order = self.times.get(self.target, tie) if seed is None else tie
        counts = np.diff(matrix.indptr)
        users = np.flatnonzero(counts >= at_least)
        if not len(users):
            raise DataError(
                f"no user has {at_least} edges of {self.target!r} or more, so none can be held out"
            )
        row = np.repeat(np.arange(self.n_users), counts)
        last = np.lexsort((tie, order, row))[np.cumsum(counts)[users] - 1]
        return self.without(np.stack([users, matrix.indices[last]], 1).astype(np.int64))

    def without(self, valid: Pairs) -> Behaviours:
        """The same data with these pairs moved out of all relations into validation."""
        gone, edges, times = _keys(valid, self.shape), {}, {}
        for name, matrix in self.edges.items():
            c = matrix.tocoo()
            keep = ~np.isin(c.row.astype(np.int64) * self.n_items + c.col, gone)
            seconds = self.times[name][keep] if name in self.times else None
            edges[name], known = ones(c.row[keep], c.col[keep], seconds, self.shape)
            if known is not None:
                times[name] = known
        return replace(self, edges=edges, times=times, valid=valid)


def _entries(what: str, matrix: Any) -> sparse.coo_matrix:
    """What is stored in a matrix and is not zero."""
    found = sparse.coo_matrix(matrix)
    if not (found.data >= 0).all():
        raise DataError(
            f"{what} has values that are negative or NaN; an entry is an edge, its value 1 or the "
            "seconds of its time: correct them, or leave out what is no edge"
        )
    there = found.data != 0
    return sparse.coo_matrix((found.data[there], (found.row[there], found.col[there])), found.shape)


def _pairs(what: str, given: Any) -> Pairs:
    """Users and items ``[m, 2]`` of a sparse matrix or of anything like an array."""
    if given is None:
        return _NONE
    if sparse.issparse(given):
        c = _entries(what, given)
        return np.stack([c.row, c.col], 1).astype(np.int64)
    found = np.asarray(given)
    if not found.size:
        return _NONE
    whole = found.dtype.kind in "iuf" and bool(np.isfinite(found).all())
    if not whole or (found != np.floor(found)).any():
        raise DataError(
            f"{what} holds {found.dtype} values that are no whole numbers; give the numbers of "
            "users and items, [m, 2]"
        )
    return found.astype(np.int64)


def _keys(pairs: Pairs, shape: tuple[int, int]) -> NDArray[np.int64]:
    return np.asarray(pairs[:, 0] * shape[1] + pairs[:, 1], np.int64)


def ones(
    row: NDArray[Any], col: NDArray[Any], seconds: NDArray[np.int64] | None, shape: Any
) -> tuple[sparse.csr_matrix, NDArray[np.int64] | None]:
    """A matrix of ones, and the last time of each of its entries."""
    keys = row.astype(np.int64) * shape[1] + col
    order = np.lexsort((seconds, keys)) if seconds is not None else np.argsort(keys, kind="stable")
    kept = keys[order]
    last = order[np.append(kept[1:] != kept[:-1], True)] if len(kept) else order
    values = np.ones(len(last), np.float32)
    matrix = sparse.csr_matrix((values, (row[last], col[last])), shape)
    matrix.sort_indices()
    return matrix, None if seconds is None else seconds[last]


def load_behaviours(name: str, root: str | Path | None = None) -> Behaviours:
    """A published set, ``"retail-rocket"`` or ``"tmall"``, with its test split.

    Raises:
        DataError: A file is absent or has another checksum.
    """
    if name not in NAMES:
        raise DataError(f"no set of behaviours {name!r}; known are {', '.join(NAMES)}")
    about = card(NAMES[name])
    relations: dict[str, Any] = {}
    for entry in about["files"]:
        path = find([entry["file"]], root)
        if path is None:
            raise missing(NAMES[name], [entry["file"]], root)
        relations[entry["relation"]] = matrix = _load_npz(path, read_bytes(path))
        check_sha256(path, content(matrix), entry["sha256"])
    test = relations.pop("test")
    sums = {entry["file"]: entry["sha256"] for entry in about["files"]}
    return Behaviours.of(relations, about["target"], test, sha256=sums)


def _load_npz(path: Path, data: bytes) -> sparse.csr_matrix:
    """A matrix as ``scipy.sparse.save_npz`` writes it; nothing is unpickled."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as parts:
            if parts["format"].item() not in (b"csr", "csr"):
                raise ValueError(f"format {parts['format'].item()!r}, expected csr")
            triple = parts["data"], parts["indices"], parts["indptr"]
            return sparse.csr_matrix(triple, shape=tuple(parts["shape"]))
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no sparse matrix of scipy: {error}") from error


def content(matrix: sparse.csr_matrix) -> bytes:
    """What the checksum of a matrix is made of: shape, row starts, columns, values, as int64."""
    whole = sparse.csr_matrix(matrix)
    whole.sort_indices()
    parts = (whole.shape, whole.indptr, whole.indices, whole.data)
    return b"".join(np.asarray(part).astype("<i8").tobytes() for part in parts)
