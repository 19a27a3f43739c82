"""Evaluation of generated molecules against a data set."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.graph.metrics import fcd as chem
from graphdiff.graph.metrics import molecular
from graphdiff.graph.metrics.generic import Progress
from graphdiff.graph.metrics.intervals import centred, wilson
from graphdiff.graph.metrics.mmd import Estimator, LinearMMD, TwoSample
from graphdiff.graph.metrics.molecular import Mean, Molecules, ScaffoldSimilarity
from graphdiff.graph.metrics.nspdk import nspdk_features
from graphdiff.graph.metrics.pgd import molecule_discrepancy
from graphdiff.graph.metrics.power import proportion_resolution, resolution, too_small
from graphdiff.graph.metrics.report import Metric, Report

if TYPE_CHECKING:
    from rdkit import Chem

    from graphdiff.data import Dataset, Graphs

__all__ = ["DISTANCES", "MOLECULE_METRICS", "evaluate_molecules"]

PROPORTIONS = ("validity_raw", "connected_raw", "validity_corrected", "uniqueness", "novelty")
DISTANCES = ("fcd", "fcd_score", "nspdk", "snn", "scaffold", "int_div", "pgd")
MOLECULE_METRICS = (*PROPORTIONS, "fcd", "nspdk", "snn", "scaffold", "int_div")
"""What is computed by default; ``fcd_score`` (exp(-0.2 FCD)) and ``pgd`` only on request."""

FRECHET_DRAWS = 40  # resamples of a Frechet distance: each costs an eigendecomposition


@dataclass
class _Set:
    """A list of SMILES with what the metrics derive from it, each at most once."""

    smiles: list[str]
    bits: int

    @cached_property
    def mols(self) -> list[Chem.Mol]:
        from graphdiff.graph.molecules import parse_smiles

        return [parse_smiles(s) for s in self.smiles]

    @cached_property
    def chemnet(self) -> NDArray[np.float32]:
        return chem.chemnet()(self.smiles)

    @cached_property
    def nspdk(self) -> Any:
        return nspdk_features(molecular.labelled_graphs(self.mols), bits=self.bits)

    @cached_property
    def fingerprints(self) -> NDArray[np.float32]:
        return molecular.fingerprints(self.mols)

    @cached_property
    def scaffolds(self) -> list[str | None]:
        return molecular.scaffolds(self.mols)

    @property
    def key(self) -> str:
        return hashlib.sha256("\n".join(self.smiles).encode()).hexdigest()


def canonical(smiles: Sequence[str], *, stereo: bool = True) -> list[str]:
    """Canonical SMILES of data-set molecules, optionally without stereochemistry.

    Raises:
        DataError: If one does not parse.
    """
    from rdkit import Chem

    from graphdiff.graph.molecules import parse_smiles

    out = []
    for text in smiles:
        mol = parse_smiles(text)
        if not stereo:
            Chem.RemoveStereochemistry(mol)
        out.append(Chem.MolToSmiles(mol))
    return out


def _statistics(reference: _Set, cache: bool) -> chem.Statistics:
    """ChemNet statistics of the reference, from the user cache if they were computed before."""
    from graphdiff.data.packed import read_arrays, write_arrays
    from graphdiff.data.sources import writable_cache

    path = writable_cache() / f"chemnet-{reference.key[:32]}.npz"
    if cache and path.is_file():
        try:
            held = read_arrays(path, mmap=False)
            return chem.Statistics(held["mean"], held["cov"], int(held["n"]))
        except (DataError, KeyError):
            path.unlink(missing_ok=True)  # an interrupted copy: compute it again
    found = chem.Statistics.of(reference.chemnet)
    if cache:
        arrays = {"mean": found.mean, "cov": found.cov, "n": np.asarray(found.n)}
        write_arrays(path, arrays)
    return found


def _features(sample: _Set, cache: bool) -> NDArray[np.float32]:
    """ChemNet features of a fixed sample of the training set, cached like the statistics."""
    from graphdiff.data.packed import read_arrays, write_arrays
    from graphdiff.data.sources import writable_cache

    path = writable_cache() / f"chemnet-rows-{sample.key[:32]}.npz"
    if cache and path.is_file():
        try:
            return read_arrays(path, mmap=False)["rows"]
        except (DataError, KeyError):
            path.unlink(missing_ok=True)
    rows = sample.chemnet
    if cache:
        write_arrays(path, {"rows": rows})
    return rows


@dataclass
class _Context:
    """What the distance metrics share."""

    ours: _Set
    reference: _Set
    train: _Set | None
    estimator: Estimator
    bits: int
    n_boot: int
    cache: bool
    rng: np.random.Generator

    @cached_property
    def statistics(self) -> chem.Statistics:
        return _statistics(self.reference, self.cache)

    def statistic(self, name: str, which: _Set) -> TwoSample:
        """The resampled statistic of one metric, for the generated or the training sample."""
        if name in ("fcd", "fcd_score"):
            rows = which.chemnet if which is self.ours else _features(which, self.cache)
            return chem.Frechet(rows, self.statistics)
        if name == "nspdk":
            return LinearMMD(which.nspdk, self.reference.nspdk, self.estimator)
        if name == "snn":
            near = molecular.nearest_similarity(which.fingerprints, self.reference.fingerprints)
            return Mean(near)
        if name == "scaffold":
            return ScaffoldSimilarity(which.scaffolds, self.reference.scaffolds)
        return Mean.pairs(molecular.mean_similarity(which.fingerprints))

    def interval(self, name: str, which: _Set) -> tuple[float, Any, float | None]:
        """Value, interval and resolution of one metric."""
        found = self.statistic(name, which)
        draws = self.n_boot
        if name in ("fcd", "fcd_score"):
            draws = min(draws, FRECHET_DRAWS)
        values, value = found.bootstrap(draws, self.rng), found.value
        if name == "fcd_score":
            value, values = math.exp(-0.2 * value), np.exp(-0.2 * values)
        low = -np.inf if name == "nspdk" and self.estimator == "unbiased" else 0.0
        high = np.inf if name in ("fcd", "nspdk") else 1.0
        values = values[np.isfinite(values)]
        if math.isnan(value):
            return value, None, None
        return value, centred(value, values, low, high), resolution(values)


_DISTANCES: dict[str, dict[str, Any]] = {
    "fcd": {"direction": "lower", "kernel": "Frechet, ChemNet"},
    "fcd_score": {"direction": "higher", "kernel": "exp(-0.2 FCD)"},
    "nspdk": {"direction": "lower"},
    "snn": {"direction": "none", "kernel": "Tanimoto, Morgan r=2 1024 bits"},
    "scaffold": {"direction": "higher", "kernel": "cosine, Murcko >= 2 rings"},
    "int_div": {"direction": "none", "kernel": "1 - Tanimoto, Morgan r=2 1024 bits"},
}


def _distance(name: str, context: _Context, population: str, sha: str) -> Metric:
    about = dict(_DISTANCES[name])
    note = ""
    if name == "nspdk":
        about["kernel"] = f"linear, NSPDK r=4 d=4 {context.bits} bits"
        about["estimator"] = context.estimator
    value, interval, least = context.interval(name, context.ours)
    floor, floor_interval = None, None
    if context.train is not None:
        floor, floor_interval, _ = context.interval(name, context.train)
        if len(context.train.smiles) < len(context.ours.smiles):
            note = f"the floor is of only {len(context.train.smiles)} training molecules"
    if math.isnan(value):
        note = "no scaffold with two rings on one of the sides"
    return Metric(
        name=name, value=value, n=len(context.ours.smiles), population=population, note=note,
        n_reference=0 if name == "int_div" else len(context.reference.smiles), interval=interval,
        floor=floor, floor_interval=floor_interval, split_hash=sha[:16], resolution=least, **about,
    )  # fmt: skip


def _share(name: str, hits: int, n: int, population: str, **more: Any) -> Metric:
    return Metric(
        name=name, value=hits / n if n else math.nan, direction="higher", n=n,
        population=population, estimator="proportion, Wilson interval", interval=wilson(hits, n),
        resolution=proportion_resolution(hits, n), **more,
    )  # fmt: skip


def _proportion(
    name: str, found: Molecules, ours: list[str], train: _Set | None, dataset: Dataset,
    train_split: str, reference: list[str], population: str, sha: str,
) -> Metric:  # fmt: skip
    n = len(found)
    if name == "validity_raw":
        return _share(name, int(found.valid.sum()), n, "raw", note="before any correction")
    if name == "connected_raw":
        return _share(name, int(found.connected.sum()), n, "raw", note="valid and in one piece")
    if name == "validity_corrected":
        if not found.corrected:
            note = "not defined for SMILES: an invalid one has no graph to correct"
            return Metric(name, math.nan, "none", n, note=note)
        hits = sum(s is not None for s in found.smiles)
        note = "bonds lowered until valid, largest piece kept: 1 by construction, no quality"
        return _share(name, hits, n, "corrected", note=note)
    if name == "uniqueness":
        floor = None
        if train is not None:
            floor = len(set(train.smiles)) / len(train.smiles)
        return _share(name, len(set(ours)), len(ours), population, floor=floor)
    distinct = sorted(set(ours))
    old = molecular.known(distinct, dataset, train_split)
    base = sorted(set(reference[: max(len(ours), 1)]))
    floor = 1 - len(molecular.known(base, dataset, train_split)) / len(base) if train else None
    return _share(
        name, len(distinct) - len(old), len(distinct), f"{population}, unique", floor=floor,
        split_hash=sha[:16], note="floor: reference molecules against the training set",
    )  # fmt: skip


def _warnings(n: int, used: int, metrics: Sequence[str], skipped: bool, stereo: bool) -> list[str]:
    out = []
    if n < 1000:
        out.append(f"only {n} molecules: every number here is rough; published tables use 10,000")
    if n < 10_000 and {"fcd", "fcd_score"} & set(metrics):
        out.append(
            f"the FCD of {used} molecules is biased upwards: compare it with the floor of the same "
            "size, not with published values for 10,000"
        )
    if skipped:
        out.append("no FCD: install its weights with `pip install fcd-torch`")
    if stereo:
        out.append(
            "reference SMILES carry stereochemistry, which generated graphs cannot have; as in "
            "published tables the FCD counts that as a difference (stereo=False removes it)"
        )
    return out


def evaluate_molecules(
    raw: Graphs | Sequence[str],
    dataset: Dataset,
    *,
    metrics: Sequence[str] = MOLECULE_METRICS,
    reference: str = "test",
    train: str = "train",
    population: Literal["corrected", "valid"] = "corrected",
    estimator: Estimator = "biased",
    stereo: bool = True,
    floor: bool = True,
    bits: int = 16,
    n_boot: int = 200,
    seed: int = 0,
    cache: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Scores generated molecules against a data set.

    Validity and connectivity are of the raw samples. All other metrics are of the molecules of
    ``population``, each cut to its largest piece: published tables take all molecules after
    correction (``corrected``); ``valid`` takes only those that needed none.

    Args:
        raw: Uncorrected graphs whose node classes are ``dataset.atoms``, or SMILES.
        dataset: Data set with SMILES and the splits named below.
        metrics: Some of ``validity_raw``, ``connected_raw``, ``validity_corrected``,
            ``uniqueness``, ``novelty``, ``fcd``, ``fcd_score``, ``nspdk``, ``snn``, ``scaffold``,
            ``int_div``, ``pgd`` (:mod:`graphdiff.graph.metrics.classifier`).
        reference: Split to compare with.
        train: Split for novelty and floors.
        population: See above.
        estimator: Of the NSPDK MMD.
        stereo: Keep the stereochemistry of reference SMILES, as published tables do.
        floor: Score as many training molecules in place of the generated ones, too.
        bits: Columns of the NSPDK features, 2 to this power.
        n_boot: Bootstrap draws (at most 40 for the FCD).
        seed: Seed of bootstrap and of the training sample.
        cache: Keep ChemNet statistics of the data set in the user cache.
        progress: Called with the name of each stage and the share that is done.

    Returns:
        The report. FCD is left out with a warning if the package with its weights is missing.

    Raises:
        ArgumentError: For an unknown metric, split or option, an empty sample, or a data set
            without molecules.
    """
    begin = time.perf_counter()
    unknown = [m for m in metrics if m not in (*PROPORTIONS, *DISTANCES)]
    if unknown:
        raise ArgumentError(
            f"unknown molecule metric {unknown[0]!r}; there are "
            f"{', '.join((*PROPORTIONS, *DISTANCES))}"
        )
    if dataset.atoms is None:
        raise ArgumentError(
            f"data set {dataset.name!r} holds no molecules: use evaluate_graphs instead"
        )
    skipped = bool({"fcd", "fcd_score"} & set(metrics)) and not chem.available()
    names = [m for m in metrics if not (skipped and m in ("fcd", "fcd_score"))]

    def tell(stage: str, share: float) -> None:
        if progress is not None:
            progress(stage, share)

    tell("reading molecules", 0.0)
    found = Molecules.read(raw, dataset.atoms, lambda x: tell("reading molecules", 0.1 * x))
    ours = found.population(population)
    context, texts, sha = _prepare(
        ours, dataset, names, reference, train, estimator, stereo, floor, bits, n_boot, seed, cache
    )
    results = []
    for i, name in enumerate(names):
        tell(name, 0.15 + 0.85 * i / len(names))
        if name in PROPORTIONS:
            results.append(
                _proportion(
                    name, found, ours, context.train, dataset, train, texts, population, sha
                )
            )
        elif len(ours) < 2:
            note = f"only {len(ours)} {population} molecules"
            results.append(Metric(name, math.nan, n=len(ours), population=population, note=note))
        elif name == "pgd":
            base = None if context.train is None else context.train.smiles
            about: dict[str, Any] = {"population": population, "sha": sha, "n_boot": n_boot}
            results.append(molecule_discrepancy(ours, texts, base, seed=seed, **about))
        else:
            results.append(_distance(name, context, population, sha))
    tell("done", 1.0)
    marked = stereo and bool({"fcd", "fcd_score"} & set(names)) and any("@" in s for s in texts)
    info = {
        "n": len(found), "n_population": len(ours), "population": population, "seed": seed,
        "dataset": dataset.name, "reference": reference, "reference_sha256": sha, "train": train,
        "stereo": stereo, "n_boot": n_boot, "seconds": round(time.perf_counter() - begin, 3),
    }  # fmt: skip
    return Report(
        f"{len(found)} generated molecules against {dataset.name} ({reference})", tuple(results),
        (*_warnings(len(found), len(ours), names, skipped, marked), *too_small(results)), info,
    )  # fmt: skip


def _prepare(
    ours: list[str], dataset: Dataset, names: Sequence[str], reference: str, train: str,
    estimator: Estimator, stereo: bool, floor: bool, bits: int, n_boot: int, seed: int, cache: bool,
) -> tuple[_Context, list[str], str]:  # fmt: skip
    """Reference and training sample as SMILES, and the hash of the reference split."""
    rng = np.random.default_rng(seed)
    sha = dataset.fingerprint(reference)["sha256"]
    needed = bool(set(names) - {"validity_raw", "connected_raw", "validity_corrected"})
    texts = canonical(dataset.split_smiles(reference), stereo=stereo) if needed else []
    sample: _Set | None = None
    if floor and needed:
        pool = dataset.splits.get(train)
        if pool is None:
            raise ArgumentError(
                f"data set {dataset.name!r} has no split {train!r}; it has "
                f"{', '.join(dataset.splits)}"
            )
        # The sample for the floor has its own stream: it must not move with other draws.
        pick = np.random.default_rng([seed, 1]).permutation(len(pool))[: max(len(ours), 2)]
        assert dataset.smiles is not None
        chosen = [dataset.smiles[int(i)] for i in pool[np.sort(pick)]]
        sample = _Set(canonical(chosen, stereo=stereo), bits)
    context = _Context(
        _Set(ours, bits), _Set(texts, bits), sample, estimator, bits, n_boot, cache, rng
    )
    return context, texts, sha
