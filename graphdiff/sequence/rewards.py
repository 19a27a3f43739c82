r"""Scores of one sequence by name, and the metrics of optimised protein sets.

A score is written ``NAME`` or ``NAME:ARGUMENT`` wherever a reward is named, with a weight before
it (a negative one turns a score into a penalty) and a window behind it, as for every reward:

=================== =============================================================================
``gc``              share of G and C (DNA, RNA)
``length``          number of letters
``run``             longest run of one letter
``run:N``           letters by which the longest run exceeds ``N``: ``-1*run:5`` is a penalty
``motif:PATTERN``   1 if the pattern occurs, else 0; letters or ambiguity codes (``TATAWAW``)
``count:PATTERN``   places where it occurs, overlapping ones too
``similar:TEXT``    :math:`1 - d / \max(n, m)` with the edit distance :math:`d` to a text
``ehrlich:L-C-K-S`` an Ehrlich function: length, motifs, letters of each, seed
=================== =============================================================================

``+rc`` behind a pattern looks at both strands; a place counts once.

:func:`ggs_metrics` are those of GGS (Kirjner et al., ICLR 2024, arXiv 2307.00494): of the 128
candidates that a predictor likes best, the median fitness (normalised) that an oracle which the
optimiser never saw gives them, the mean edit distance between them, and the median edit distance
to the nearest sequence that the optimiser was given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.metrics.report import Metric, Report
from graphdiff.sequence.alphabet import Alphabet, ambiguity_codes, find_alphabet
from graphdiff.sequence.sequences import Sequences

if TYPE_CHECKING:
    from graphdiff.sequence.ehrlich import Ehrlich
    from graphdiff.sequence.oracles import Predictor

__all__ = [
    "Motif",
    "SequenceScores",
    "gc",
    "ggs_metrics",
    "length",
    "longest_run",
    "similarity",
]

Score = Callable[[str], float]
_COMPLEMENT = str.maketrans("ACGTURYSWKMBDHVN", "TGCAAYRSWMKVHDBN")


def gc(text: str) -> float:
    """Share of G and C.

    Raises:
        ArgumentError: The text is empty.
    """
    if not text:
        raise ArgumentError("an empty sequence has no share of G and C")
    return sum(letter in "GC" for letter in text.upper()) / len(text)


def length(text: str) -> float:
    """Number of letters."""
    return float(len(text))


def longest_run(text: str) -> float:
    """Length of the longest run of one letter; 0 for an empty text."""
    return float(max((sum(1 for _ in run) for _, run in groupby(text.upper())), default=0))


def similarity(text: str, target: str) -> float:
    """``1 - d / max(n, m)``, ``d`` the edit distance: 1 if equal, 0 if nothing is alike.

    Raises:
        ArgumentError: rapidfuzz is not installed.
    """
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError as error:
        raise ArgumentError(
            'the score "similar" needs rapidfuzz: pip install "graphdiffusion[bio]"'
        ) from error
    return float(Levenshtein.normalized_similarity(text.upper(), target.upper()))


@dataclass(frozen=True)
class Motif:
    """Occurrences of a pattern of letters and ambiguity codes (IUPAC-IUB 1984).

    Attributes:
        pattern: The pattern, for example ``TATAWAW``.
        alphabet: Of the sequences.
        count: Count places instead of answering 1 or 0.
        strands: Look at both strands (DNA and RNA).

    Raises:
        ArgumentError: A character of the pattern means nothing in the alphabet, it is empty, or
            the other strand of a protein is asked for.
    """

    pattern: str
    alphabet: Alphabet
    count: bool = False
    strands: bool = False

    def __post_init__(self) -> None:
        codes = ambiguity_codes(self.alphabet)
        bad = sorted(set(self.pattern.upper()) - set(self.alphabet.letters) - set(codes))
        if not self.pattern or bad:
            found = f"{', '.join(map(repr, bad))} in it" if bad else "no letter in it"
            raise ArgumentError(
                f"motif {self.pattern!r} has {found}; the {self.alphabet.name} alphabet has the "
                f"letters {self.alphabet.letters} and the codes {''.join(codes) or 'none'}"
            )
        if self.strands and self.alphabet.name not in ("dna", "rna"):
            raise ArgumentError(
                f"motif {self.pattern!r}: {self.alphabet.name} has no other strand; leave +rc away"
            )

    @cached_property
    def expression(self) -> re.Pattern[str]:
        """The pattern as a regular expression that also finds overlapping places."""
        text = self.pattern.upper()
        forms = [text]
        if self.strands:
            forms.append(text.translate(_COMPLEMENT)[::-1])
        if self.alphabet.name == "rna":
            forms = [form.replace("T", "U") for form in forms]
        codes = ambiguity_codes(self.alphabet)
        parts = ["".join(f"[{codes.get(c, c)}]" for c in form) for form in forms]
        return re.compile(f"(?={'|'.join(parts)})")

    def __call__(self, text: str) -> float:
        """Places where it occurs, or whether there is one."""
        if self.count:
            return float(sum(1 for _ in self.expression.finditer(text.upper())))
        return float(self.expression.search(text.upper()) is not None)


@dataclass(frozen=True)
class _Excess:
    """Letters by which the longest run exceeds a limit."""

    limit: int

    def __call__(self, text: str) -> float:
        return max(0.0, longest_run(text) - self.limit)


@dataclass(frozen=True)
class _Similar:
    """Likeness to a text."""

    target: str

    def __call__(self, text: str) -> float:
        return similarity(text, self.target)


@lru_cache(maxsize=16)
def _ehrlich(alphabet: str, length: int, motifs: int, letters: int, seed: int) -> Ehrlich:
    from graphdiff.sequence.ehrlich import Ehrlich

    found = find_alphabet(alphabet)
    return Ehrlich.draw(found, length, motifs=motifs, motif_length=letters, seed=seed)


@dataclass(frozen=True)
class _EhrlichScore:
    """An Ehrlich function by its numbers, so that other processes can draw it, too."""

    alphabet: str
    numbers: tuple[int, int, int, int]

    def __call__(self, text: str) -> float:
        return _ehrlich(self.alphabet, *self.numbers).score(text)


class SequenceScores(Mapping[str, Score]):
    """All scores of sequences over an alphabet, by name; see the module docstring.

    Names with an argument are made when they are asked for; iteration yields the names that need
    none, and one example of each that does.

    Args:
        alphabet: Of the sequences.
    """

    def __init__(self, alphabet: Alphabet) -> None:
        self.alphabet = alphabet
        self._plain: dict[str, Score] = {"length": length, "run": longest_run}
        if self._nucleic:
            self._plain["gc"] = gc

    @property
    def _nucleic(self) -> bool:
        return self.alphabet.name in ("dna", "rna")

    def __getitem__(self, name: str) -> Score:
        """The score of a name.

        Raises:
            KeyError: It is unknown.
            ArgumentError: Its argument is malformed.
        """
        if name in self._plain:
            return self._plain[name]
        kind, colon, argument = name.partition(":")
        if not colon or kind not in self._makers:
            raise KeyError(name)
        made: Score = self._makers[kind](argument)
        return made

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (
            name in self._plain or (":" in name and name.partition(":")[0] in self._makers)
        )

    def __iter__(self) -> Iterator[str]:
        word = self.alphabet.letters[:4]
        yield from self._plain
        yield from ("run:5", f"motif:{word}", f"count:{word}", f"similar:{word}")
        yield "ehrlich:32-2-4-0"

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @cached_property
    def _makers(self) -> dict[str, Callable[[str], Score]]:
        return {
            "run": self._excess,
            "motif": lambda text: self._motif(text, count=False),
            "count": lambda text: self._motif(text, count=True),
            "similar": self._similar,
            "ehrlich": self._landscape,
        }

    def _motif(self, text: str, *, count: bool) -> Score:
        pattern = text.removesuffix("+rc")
        return Motif(pattern.upper(), self.alphabet, count, strands=pattern != text)

    def _excess(self, text: str) -> Score:
        if not text.isdecimal():
            raise ArgumentError(f"run:{text}: expected a number of letters, for example run:5")
        return _Excess(int(text))

    def _similar(self, text: str) -> Score:
        target = self.alphabet.decode(self.alphabet.encode(text, where=f"similar:{text}"))
        similarity(target, target)  # a library that is missing is named now
        return _Similar(target)

    def _landscape(self, text: str) -> Score:
        parts = text.split("-")
        if len(parts) != 4 or not all(p.isdecimal() for p in parts):
            raise ArgumentError(
                f"ehrlich:{text}: expected length, motifs, letters of each and seed, for example "
                "ehrlich:32-2-4-0"
            )
        a, b, c, d = (int(p) for p in parts)
        _ehrlich(self.alphabet.name, a, b, c, d)  # a wrong one is named now
        return _EhrlichScore(self.alphabet.name, (a, b, c, d))


def ggs_metrics(
    samples: Sequences,
    oracle: Predictor,
    given: Sequences,
    *,
    predictor: Predictor | None = None,
    target: str = "normalised",
    top: int = 128,
) -> Report:
    """Fitness, diversity and novelty of optimised proteins as GGS reports them.

    Args:
        samples: Candidates; equal ones count once.
        oracle: The judge, never used by the optimiser: ``ggs_oracle("aav_cnn_oracle.ckpt")``.
        given: What the optimiser started from (split ``medium`` or ``hard`` of ``aav``).
        predictor: What chooses the best ``top`` of more candidates, normally what was optimised;
            the first ``top`` are taken without one.
        target: Property that both predict.
        top: Candidates that are judged.

    Returns:
        ``fitness`` (median), ``fitness_max``, ``diversity`` (mean over pairs), ``novelty``
        (median) and ``unique``, the share of the samples that differ.

    Raises:
        ArgumentError: There are fewer than two different samples, or a target or alphabet is
            another.
    """
    from graphdiff.sequence.metrics.distance import diversity, nearest
    from graphdiff.sequence.oracles import predict_sequences

    for one in (oracle, predictor):
        if one is not None and target not in one.targets:
            raise ArgumentError(
                f"{one.name} predicts {', '.join(one.targets)}, not {target!r}; name another target"
            )
    texts = samples.strings()
    first = list({text: i for i, text in reversed(list(enumerate(texts)))}.values())
    chosen = samples[sorted(first)]
    share = len(chosen) / max(len(samples), 1)
    if len(chosen) > top and predictor is not None:
        liked = predict_sequences(predictor, chosen)[:, predictor.targets.index(target)]
        chosen = chosen[np.argsort(-liked, kind="stable")[:top]]
    chosen = chosen[:top]
    if len(chosen) < 2:
        raise ArgumentError(
            f"{len(samples)} samples hold {len(chosen)} different sequences, but diversity needs "
            "two; sample more"
        )
    fitness = predict_sequences(oracle, chosen)[:, oracle.targets.index(target)]
    far, _ = nearest(chosen, given)
    n: dict[str, Any] = {"n": len(chosen)}
    warnings = [] if len(chosen) == top else [f"only {len(chosen)} different samples, not {top}"]
    metrics = (
        Metric("fitness", float(np.median(fitness)), "higher", estimator="median", **n),
        Metric("fitness_max", float(fitness.max()), "higher", estimator="maximum", **n),
        Metric("diversity", diversity(chosen), "none", estimator="mean of pairs", **n),
        Metric(
            "novelty", float(np.median(far)), "none", estimator="median",
            n_reference=len(given), **n,
        ),
        Metric("unique", share, "higher", n=len(samples)),
    )  # fmt: skip
    info = {"target": target, "predictor": None if predictor is None else predictor.name}
    return Report(f"{len(samples)} samples judged by {oracle.name}", metrics, tuple(warnings), info)
