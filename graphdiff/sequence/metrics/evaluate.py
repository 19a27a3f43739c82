r"""Evaluation of a set of sequences against a data set, in one report.

Each number stands beside its **floor**: the same metric of as many *training* sequences in place
of the samples, against the same reference. A perfect model scores at the floor, not at 0 or 1. Two
metrics are about the training set itself; their floor is the reference (the test split) in place
of the samples:

* novelty, the share of samples that no training sequence equals, and
* nearest_train, the mean edit distance to the nearest training sequence: samples that lie nearer
  than test sequences do are copies; where a data set is split by family, test sequences lie far
  from all training sequences, and samples from the training families do not.

Intervals are bootstraps over the samples (Wilson for proportions); the reference is held fixed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.metrics.intervals import centred, percentile, wilson
from graphdiff.graph.metrics.power import proportion_resolution, resolution, too_small
from graphdiff.graph.metrics.report import Metric, Report
from graphdiff.sequence.dataset import SequenceDataset
from graphdiff.sequence.metrics.distance import edit_distances, nearest
from graphdiff.sequence.metrics.entropy import bits
from graphdiff.sequence.metrics.kmers import kmer_counts, pearson
from graphdiff.sequence.metrics.motifs import Motif
from graphdiff.sequence.metrics.scan import Scanner, spearman
from graphdiff.sequence.sequences import Sequences

__all__ = ["Progress", "evaluate_sequences"]

Float = NDArray[np.float64]
Counts = NDArray[np.int64]
Direction = Literal["lower", "higher", "none"]
Progress = Callable[[str, float], None]
"""Called with the name of the stage and the share of the whole that is done (0..1)."""

_DRAWS = 200  # of a floor


@dataclass(frozen=True)
class _Sets:
    """What is compared, and how it is resampled."""

    samples: Sequences
    reference: Sequences
    train: Sequences | None
    drawn: Counts  # [B, n]: how often each sample is drawn
    floor: Counts | None  # [F, N]: how often each training sequence is drawn, n in all
    sha: str

    def row(
        self, name: str, value: float, draws: Float, floor: Float | None, direction: Direction,
        **more: Any,
    ) -> Metric:  # fmt: skip
        """A resampled metric as a row of the report."""
        low, high = more.pop("bounds", (-np.inf, np.inf))
        least = None if floor is None or not len(floor) else float(np.mean(floor))
        span = None if least is None else percentile(np.asarray(floor))
        given: dict[str, Any] = {
            "n": len(self.samples),
            "n_reference": len(self.reference),
            "note": "",
        } | more
        if np.isnan(value):
            return Metric(name, value, direction, **given, floor=least, floor_interval=span)
        finite = draws[np.isfinite(draws)]
        return Metric(
            name=name, value=value, direction=direction, population="raw",
            interval=centred(value, finite, low, high), floor=least, floor_interval=span,
            split_hash=self.sha[:16], resolution=resolution(finite), **given,
        )  # fmt: skip


def evaluate_sequences(
    samples: Sequences,
    dataset: SequenceDataset,
    *,
    reference: str = "test",
    train: str | None = "train",
    kmers: Sequence[int] | None = None,
    motifs: Sequence[Motif] | Scanner | None = None,
    distances: bool = True,
    n_boot: int = 200,
    max_sequences: int = 4096,
    max_distances: int = 256,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Compares samples with a data set.

    Args:
        samples: Generated sequences.
        dataset: The data set.
        reference: Split to compare with.
        train: Split the model was trained on, for novelty and floors; None: there are neither.
        kmers: Lengths of words; None = 3 for nucleotides, 2 for other alphabets.
        motifs: Motifs (or a scanner of them) for the motif correlation, DNA and RNA only.
        distances: Whether edit distances are measured (they need rapidfuzz).
        n_boot: Bootstrap draws.
        max_sequences: Larger sets are cut to a random subset for the distribution metrics;
            uniqueness and novelty take all.
        max_distances: The same for the edit distances, whose cost is a product of two sizes.
        seed: Seed of bootstrap and subsets.
        progress: See :data:`Progress`.

    Returns:
        ``uniqueness``, ``novelty``, ``kmerK_correlation``, ``position_entropy`` (if all have one
        length), ``length`` (if they have not), ``set_entropy``, ``motif_correlation``,
        ``diversity``, ``nearest_train``.

    Raises:
        ArgumentError: If a set is empty, alphabets differ or an option is out of range.
    """
    begin = time.perf_counter()
    tell = progress or (lambda stage, share: None)
    ref = dataset.split(reference)
    base = None if train is None else dataset.split(train)
    _check(samples, ref, base, n_boot)
    rng = np.random.default_rng(seed)
    sets = _sets(samples, ref, base, n_boot, max_sequences, rng)
    tell("unique, novel", 0.0)
    rows = _proportions(samples, ref, base, sets.sha, rng)
    words = kmers if kmers is not None else ((3,) if len(samples.alphabet) == 4 else (2,))
    tell("k-mers", 0.1)
    rows += [_kmer_row(sets, k) for k in words]
    rows += _profile_rows(sets)
    if motifs is not None:
        tell("motifs", 0.2)
        rows.append(_motif_row(sets, motifs if isinstance(motifs, Scanner) else Scanner.of(motifs)))
    if distances:
        tell("edit distances", 0.5)
        small = _sets(samples, ref, base, n_boot, max_distances, rng)
        rows += _distance_rows(small, base, max_distances, n_boot, rng)
    tell("done", 1.0)
    info = {
        "n": len(samples), "n_reference": len(ref), "reference": reference,
        "reference_sha256": sets.sha,
        "n_train": None if base is None else len(base), "seed": seed, "n_boot": n_boot,
        "max_sequences": max_sequences, "max_distances": max_distances,
        "seconds": round(time.perf_counter() - begin, 3),
    }  # fmt: skip
    title = f"{len(samples)} generated sequences against {len(ref)} of {dataset.name} ({reference})"
    return Report(title, tuple(rows), (*_warnings(ref, base), *too_small(rows)), info)


def _check(samples: Sequences, reference: Sequences, train: Sequences | None, n_boot: int) -> None:
    for name, found in (("generated", samples), ("reference", reference), ("training", train)):
        if found is not None and not len(found):
            raise ArgumentError(f"the set of {name} sequences is empty: nothing to evaluate")
    if samples.alphabet != reference.alphabet:
        raise ArgumentError(
            f"the samples are {samples.alphabet.name} sequences, but the data set holds "
            f"{reference.alphabet.name}: choose another data set, or say the alphabet when reading"
        )
    if n_boot < 2:
        raise ArgumentError(f"n_boot must be at least 2, found {n_boot}")


def _warnings(reference: Sequences, train: Sequences | None) -> list[str]:
    out = []
    if len(reference) < 100:
        out.append(
            f"only {len(reference)} reference sequences: the reference itself is uncertain, and no "
            "interval here shows that; differences near the floor mean nothing"
        )
    if train is None:
        out.append("no training split was given: there is no floor, and novelty is not known")
    return out


def _subset(sequences: Sequences, most: int, rng: np.random.Generator) -> Sequences:
    if len(sequences) <= most:
        return sequences
    return sequences[np.sort(rng.choice(len(sequences), most, replace=False))]


def _sets(
    samples: Sequences, reference: Sequences, train: Sequences | None, n_boot: int, most: int,
    rng: np.random.Generator,
) -> _Sets:  # fmt: skip
    ours, theirs = _subset(samples, most, rng), _subset(reference, most, rng)
    base = None if train is None else _subset(train, most, rng)
    n = len(ours)
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=n_boot)
    floor = None
    if base is not None:
        floor = rng.multinomial(n, np.full(len(base), 1 / len(base)), size=_DRAWS)
    return _Sets(ours, theirs, base, drawn, floor, reference.sha256())


# -- rows -----------------------------------------------------------------------------------------


def _proportions(
    samples: Sequences, reference: Sequences, train: Sequences | None, sha: str,
    rng: np.random.Generator,
) -> list[Metric]:  # fmt: skip
    n, texts = len(samples), samples.strings()
    common: dict[str, Any] = {
        "direction": "higher", "n": n, "population": "raw", "estimator": "proportion",
        "split_hash": sha[:16],
    }  # fmt: skip

    def row(name: str, k: int, total: int, floor: float | None, note: str) -> Metric:
        return Metric(
            name, k / n, **common, n_reference=total, interval=wilson(k, n), floor=floor,
            resolution=proportion_resolution(k, n), note=note,
        )  # fmt: skip

    seen = None if train is None else train.strings()
    floor = None
    if seen is not None and len(seen) >= n:
        draws = [rng.choice(len(seen), n, replace=False) for _ in range(20)]
        floor = float(np.mean([len({seen[i] for i in draw}) / n for draw in draws]))
    rows = [row("uniqueness", len(set(texts)), 0, floor, "")]
    if seen is not None:
        known, others = set(seen), reference.strings()
        rate = sum(t not in known for t in others) / len(others)
        fresh = sum(t not in known for t in texts)
        rows.append(row("novelty", fresh, len(seen), rate, "floor: the test sequences"))
    return rows


def _mean_rows(
    sets: _Sets, ours: Float, base: Float | None, score: Callable[[Float], Float]
) -> tuple[float, Float, Float | None]:
    """A function of the mean of rows: its value, its bootstrap draws and its floor.

    Args:
        sets: The draws.
        ours: One row per sample ``[n, m]``.
        base: One row per training sequence ``[N, m]``.
        score: From rows ``[..., m]`` to values ``[...]``.
    """
    n = len(ours)
    floor = None
    if base is not None and sets.floor is not None:
        floor = score(sets.floor @ base / n)
    return float(score(ours.mean(0))), score(sets.drawn @ ours / n), floor


def _kmer_row(sets: _Sets, k: int) -> Metric:
    name = f"kmer{k}_correlation"
    target = kmer_counts(sets.reference, k).sum(0).astype(np.float64)
    ours = kmer_counts(sets.samples, k).astype(np.float64)
    base = None if sets.train is None else kmer_counts(sets.train, k).astype(np.float64)
    found = _mean_rows(sets, ours, base, lambda rows: pearson(rows, target))
    note = "a constant k-mer profile has no correlation" if np.isnan(found[0]) else ""
    return sets.row(
        name, *found, "higher", kernel=f"{k}-mers", estimator="Pearson", bounds=(-1, 1), note=note
    )


def _profile_rows(sets: _Sets) -> list[Metric]:
    """Entropy of the whole set, and of positions (or the length, if that varies)."""
    lengths = np.concatenate([s.lengths for s in (sets.samples, sets.reference)])
    parts = [sets.samples] if sets.train is None else [sets.samples, sets.train]
    rows = []
    if len(set(lengths.tolist())) == 1 and all((p.lengths == lengths[0]).all() for p in parts):
        size, width = len(sets.samples.alphabet), int(lengths[0])

        def mean_entropy(rows: Float) -> Float:
            out: Float = bits(rows.reshape(*rows.shape[:-1], width, size)).mean(-1)
            return out

        hot = [np.eye(size)[p.tokens].reshape(len(p), -1) for p in parts]
        found = _mean_rows(sets, hot[0], hot[1] if len(hot) > 1 else None, mean_entropy)
        more: dict[str, Any] = {"estimator": "plug-in, bits", "bounds": (0, np.log2(size))}
        rows.append(sets.row("position_entropy", *found, "none", **more))
    else:
        each = [p.lengths[:, None].astype(np.float64) for p in parts]
        found = _mean_rows(sets, each[0], each[1] if len(each) > 1 else None, lambda r: r[..., 0])
        rows.append(sets.row("length", *found, "none", estimator="mean, letters"))
    return [*rows, _set_entropy(sets)]


def _set_entropy(sets: _Sets) -> Metric:
    """Entropy of whole sequences; a bootstrap would repeat samples and is left out."""
    from graphdiff.sequence.metrics.entropy import set_entropy

    floor = None
    n = len(sets.samples)
    if sets.train is not None and len(sets.train) >= n:
        step = len(sets.train) // n
        floor = np.asarray([set_entropy(sets.train[i::step][:n]) for i in range(min(step, 20))])
    note = f"at most log2 n = {np.log2(n):.2f}; no interval"
    value = set_entropy(sets.samples)
    return sets.row(
        "set_entropy", value, np.zeros(0), floor, "none", estimator="plug-in, bits", note=note
    )


def _motif_row(sets: _Sets, scanner: Scanner) -> Metric:
    target = scanner.counts(sets.reference).mean(0)
    ours = scanner.counts(sets.samples).astype(np.float64)
    base = None if sets.train is None else scanner.counts(sets.train).astype(np.float64)
    found = _mean_rows(sets, ours, base, lambda rows: spearman(rows, target))
    note = "no motif differs from another in its number of sites" if np.isnan(found[0]) else ""
    kernel = f"{len(scanner)} motifs, {scanner.strands} strands"
    more: dict[str, Any] = {"kernel": kernel, "estimator": "Spearman", "bounds": (-1, 1)}
    return sets.row("motif_correlation", *found, "higher", note=note, **more)


def _distance_rows(
    sets: _Sets, train: Sequences | None, most: int, n_boot: int, rng: np.random.Generator
) -> list[Metric]:
    n = len(sets.samples)
    rows = []
    more: dict[str, Any] = {"estimator": "mean, letters", "bounds": (0, np.inf)}
    if n > 1:
        value, draws = _pair_means(sets.samples, sets.drawn)
        floor = None
        if train is not None and len(train) > 1:
            pool = _subset(train, 4 * most, rng)
            m = len(pool)
            floor = _pair_means(pool, rng.multinomial(n, np.full(m, 1 / m), size=_DRAWS))[1]
        rows.append(sets.row("diversity", value, draws, floor, "none", **more))
    if train is not None:
        ours = nearest(sets.samples, train)[0].astype(np.float64)
        theirs = nearest(sets.reference, train)[0].astype(np.float64)
        size = len(theirs)
        other = rng.multinomial(n, np.full(size, 1 / size), size=max(n_boot, _DRAWS)) @ theirs / n
        draws = sets.drawn @ ours / n
        note = "floor: the test sequences; nearer means copies, unless the split is by family"
        more |= {"n_reference": len(train), "note": note}
        rows.append(sets.row("nearest_train", float(ours.mean()), draws, other, "none", **more))
    return rows


def _pair_means(sequences: Sequences, counts: Counts) -> tuple[float, Float]:
    """Mean distance over pairs of different sequences of the set, and of each draw from it."""
    d = edit_distances(sequences, sequences).astype(np.float64)
    n = len(sequences)
    c = counts.astype(np.float64)
    pairs = c.sum(1) ** 2 - (c * c).sum(1)  # a sequence drawn twice is no pair with itself
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = np.einsum("bi,bi->b", c @ d, c) / pairs
    return float(d.sum() / (n * (n - 1))), draws
