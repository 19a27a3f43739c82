r"""Ehrlich functions: closed-form landscapes over sequences with a known optimum.

Stanton et al. 2024, "Closed-Form Test Functions for Biophysical Sequence Design Benchmarking"
(arXiv:2407.00236). Over :math:`V` letters and length :math:`L`, :math:`c` motifs
:math:`a^{(i)}` of :math:`k` letters with spacings :math:`s^{(i)}` (offsets from the first letter,
:math:`s_1 = 0`) score

.. math:: f(x) = \prod_{i=1}^{c} r(q_i), \qquad
          q_i = \max_{l} \Bigl\lfloor \frac{Q}{k} \sum_{j=1}^{k}
          [x_{l + s^{(i)}_j} = a^{(i)}_j] \Bigr\rfloor \Big/ Q, \qquad
          r(q) = q\,\bigl(1 + \varepsilon\, q\,(q - 1)\bigr)

for feasible :math:`x`, with :math:`Q` levels of quantisation and epistasis :math:`\varepsilon`
(letters are worth more together than apart; 0 and 1 stay where they are). A sequence is feasible if
no two neighbouring letters are a banned transition; others are worth 0 here, so that every value is
a finite reward (the paper says minus infinity).

Every letter may follow itself, no motif contains a banned transition, and drawn motifs are pieces
of one allowed chain whose spacings fit side by side into :math:`L`. So a feasible sequence of value
1 exists, and :meth:`Ehrlich.optimum` builds it: gaps repeat the letter before them. Everything is
drawn from a seed; the drawn functions are not those of the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.sequence.alphabet import DNA, Alphabet
from graphdiff.sequence.sequences import Sequences

__all__ = ["Ehrlich"]

Int = NDArray[np.int64]
Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ehrlich:
    r"""An Ehrlich function.

    Attributes:
        alphabet: The letters.
        length: Length :math:`L` of the sequences.
        allowed: Whether letter b may follow letter a, ``bool [V, V]``.
        motifs: Tokens of the motifs, ``int64 [c, k]``.
        spacings: Offsets of their letters, ``int64 [c, k]``, the first 0.
        quantization: Levels of the quality of a motif above 0, at most k.
        epistasis: :math:`\varepsilon` in [0, 4]; above, values would be negative.

    Raises:
        ArgumentError: If shapes do not fit, motifs hold banned transitions or do not fit the
            length, or a number is out of range.
    """

    alphabet: Alphabet
    length: int
    allowed: NDArray[np.bool_]
    motifs: Int
    spacings: Int
    quantization: int
    epistasis: float = 0.0

    def __post_init__(self) -> None:
        size = len(self.alphabet)
        shape = self.motifs.shape
        if self.allowed.shape != (size, size) or len(shape) != 2 or self.spacings.shape != shape:
            raise ArgumentError(
                f"allowed must be [{size}, {size}] and motifs and spacings [c, k], found "
                f"{list(self.allowed.shape)}, {list(shape)}, {list(self.spacings.shape)}"
            )
        if not 1 <= self.quantization <= shape[1]:
            raise ArgumentError(
                f"quantization must be 1 to the motif length {shape[1]}, found {self.quantization}"
            )
        if not 0 <= self.epistasis <= 4:
            raise ArgumentError(f"epistasis must lie in [0, 4], found {self.epistasis}")
        if (self.spacings[:, 0] != 0).any() or (np.diff(self.spacings, axis=1) < 1).any():
            raise ArgumentError("spacings must start at 0 and increase")
        if self.spacings[:, -1].max() >= self.length // shape[0]:
            raise ArgumentError(
                f"{shape[0]} motifs that span {int(self.spacings[:, -1].max()) + 1} letters do not "
                f"fit side by side into {self.length}: shorten them or lengthen the sequence"
            )
        if not self.allowed.diagonal().all():
            raise ArgumentError("every letter must be allowed to follow itself")
        if not self.allowed[self.motifs[:, :-1], self.motifs[:, 1:]].all():
            raise ArgumentError("a motif contains a banned transition: the optimum would not exist")

    @classmethod
    def draw(
        cls,
        alphabet: Alphabet = DNA,
        length: int = 32,
        *,
        motifs: int = 2,
        motif_length: int = 4,
        quantization: int | None = None,
        epistasis: float = 0.0,
        banned: float = 0.2,
        seed: int = 0,
    ) -> Ehrlich:
        """A random function.

        Args:
            alphabet: The letters.
            length: Length of the sequences.
            motifs: Number of motifs.
            motif_length: Letters of each.
            quantization: Levels; None = ``motif_length`` (no rounding).
            epistasis: See the module docstring.
            banned: Share of the transitions between different letters that are banned. A cycle
                through all letters always stays allowed, so every letter can be reached.
            seed: Seed.

        Raises:
            ArgumentError: If the motifs do not fit or a number is out of range.
        """
        size = len(alphabet)
        if not 0 <= banned < 1:
            raise ArgumentError(f"banned must lie in [0, 1), found {banned}")
        if motifs < 1 or motif_length < 1 or length // motifs < motif_length:
            raise ArgumentError(
                f"{motifs} motifs of {motif_length} letters do not fit into {length} letters"
            )
        rng = np.random.default_rng(seed)
        cycle = rng.permutation(size)
        allowed = rng.random((size, size)) >= banned
        allowed[np.arange(size), np.arange(size)] = True
        allowed[cycle, np.roll(cycle, -1)] = True
        chain = [int(rng.integers(size))]
        while len(chain) < motifs * motif_length:
            chain.append(int(rng.choice(np.flatnonzero(allowed[chain[-1]]))))
        tokens = np.asarray(chain, np.int64).reshape(motifs, motif_length)
        span = length // motifs
        spacings = np.zeros_like(tokens)
        for row in spacings:
            row[1:] = np.sort(rng.choice(np.arange(1, span), motif_length - 1, replace=False))
        levels = motif_length if quantization is None else quantization
        return cls(alphabet, length, allowed, tokens, spacings, levels, epistasis)

    # -- values -----------------------------------------------------------------------------

    def feasible(self, tokens: ArrayLike) -> NDArray[np.bool_]:
        """Whether no banned transition occurs, ``bool [b]``, for tokens ``[b, L]``."""
        x = self._tokens(tokens)
        return np.asarray(self.allowed[x[:, :-1], x[:, 1:]].all(1))

    def qualities(self, tokens: ArrayLike) -> Float:
        """Share of each motif present at its best place, rounded down, ``float64 [b, c]``."""
        x = self._tokens(tokens)
        k = self.motifs.shape[1]
        out = np.zeros((len(x), len(self.motifs)))
        for i, (motif, offsets) in enumerate(zip(self.motifs, self.spacings, strict=True)):
            places = np.arange(self.length - int(offsets[-1]))
            hits = (x[:, places[:, None] + offsets[None]] == motif).sum(-1).max(1)
            out[:, i] = hits * self.quantization // k / self.quantization
        return out

    def __call__(self, tokens: ArrayLike) -> Float:
        """Values in [0, 1], ``float64 [b]``, of tokens ``[b, L]``; 0 for infeasible ones.

        Raises:
            ArgumentError: If the shape is another or a token is no letter.
        """
        q = self.qualities(tokens)
        response = q * (1 + self.epistasis * q * (q - 1))
        return np.where(self.feasible(tokens), response.prod(1), 0.0)

    def score(self, text: str) -> float:
        """The value of one sequence given as text: a reward.

        Raises:
            DataError: If the text has other letters.
            ArgumentError: If it has another length.
        """
        return float(self(self.alphabet.encode(text)[None])[0])

    def of(self, sequences: Sequences) -> Float:
        """Values ``float64 [n]`` of packed sequences; those of another length are 0."""
        if sequences.alphabet != self.alphabet:
            raise ArgumentError(
                f"this function is over {self.alphabet.name}, found {sequences.alphabet.name}"
            )
        fits = np.flatnonzero(sequences.lengths == self.length)
        out = np.zeros(len(sequences))
        if len(fits):
            out[fits] = self(sequences.dense(fits)[0])
        return out

    def _tokens(self, tokens: ArrayLike) -> Int:
        x = np.asarray(tokens)
        if x.ndim != 2 or x.shape[1] != self.length or x.dtype.kind not in "iu":
            raise ArgumentError(
                f"tokens must be whole numbers of shape [b, {self.length}], found {x.dtype} of "
                f"shape {list(x.shape)}"
            )
        if x.size and not 0 <= int(x.min()) <= int(x.max()) < len(self.alphabet):
            raise ArgumentError(
                f"tokens must be letters 0 to {len(self.alphabet) - 1}: denoise masked positions "
                "first"
            )
        return x.astype(np.int64)

    # -- what is known ----------------------------------------------------------------------

    def optimum(self) -> str:
        """A feasible sequence of value 1.

        Raises:
            ArgumentError: If motifs lie so close that no allowed path leads from one to the next.
        """
        # Order of the motifs is free; the first that leaves room for all paths is taken.
        from itertools import islice, permutations

        for order in islice(permutations(range(len(self.motifs))), 1000):
            if (found := self._layout(order)) is not None:
                return self.alphabet.decode(found)
        raise ArgumentError(
            f"no allowed path joins the motifs within {self.length} letters: ban fewer "
            "transitions, or lengthen the sequence"
        )

    def _layout(self, order: tuple[int, ...]) -> Int | None:
        """Motifs side by side in this order, joined by shortest paths; None if too long."""
        out: list[int] = []
        for i in order:
            motif, gaps = self.motifs[i].tolist(), np.diff(self.spacings[i]).tolist()
            if out:
                out += self._path(out[-1], motif[0])
            out.append(motif[0])
            for (a, b), gap in zip(pairwise(motif), gaps, strict=True):
                out += [a] * (gap - 1) + [b]
        if len(out) > self.length:
            return None
        return np.asarray(out + [out[-1]] * (self.length - len(out)), np.int64)

    def _path(self, a: int, b: int) -> list[int]:
        """The letters strictly between a and b on a shortest allowed path."""
        if self.allowed[a, b]:
            return []
        before = {a: a}
        queue = [a]
        for here in queue:
            for there in np.flatnonzero(self.allowed[here]).tolist():
                if there not in before:
                    before[there] = here
                    queue.append(there)
        if b not in before:
            raise ArgumentError(
                f"no allowed transitions lead from {self.alphabet.letters[a]} to "
                f"{self.alphabet.letters[b]}: the optimum does not exist"
            )
        path = [before[b]]
        while path[-1] != a:
            path.append(before[path[-1]])
        return path[-2::-1]
