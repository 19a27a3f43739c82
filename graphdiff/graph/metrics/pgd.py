"""The PolyGraph discrepancy of an evaluation: descriptors, the published protocol, the report row.

The score and what it bounds are explained in :mod:`graphdiff.graph.metrics.classifier`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.metrics.classifier import (
    CLASSIFIERS,
    Bound,
    Discrepancy,
    Rows,
    as_score,
    discrepancy,
    hits,
    sum_of_means,
)
from graphdiff.graph.metrics.intervals import percentile
from graphdiff.graph.metrics.power import resolution
from graphdiff.graph.metrics.report import Metric, number

if TYPE_CHECKING:
    from graphdiff.data.graphs import Graphs

__all__ = [
    "discrepancy_metric",
    "graph_rows",
    "molecule_discrepancy",
    "molecule_rows",
    "published_discrepancy",
]

Float = NDArray[np.float64]

MOST = 512  # graphs of one side: the classifiers see 1,200 columns
FLOORS = 10  # training samples scored for the floor, each as expensive as the score itself


def published_discrepancy(
    rows: Rows, make: Callable[[], Any], bound: Bound = "js", seed: int = 0
) -> tuple[float, str, dict[str, float]]:
    """The score by the published protocol of halves, to compare with published numbers.

    One half of each sample fits; four folds within it choose the descriptor by the mean score; the
    classifier fitted to the whole half is judged on the other half. Columns are standardised by
    the fitting half. The published numbers take the classifier TabPFN.

    Args:
        rows: As in :func:`discrepancy`; both sides must have the same size.
        make: Makes a classifier with ``fit`` and ``predict_proba``.
        bound: See :func:`discrepancy`.
        seed: Seed of the halves.

    Returns:
        The score, the chosen descriptor, and the score of each descriptor.
    """
    scores = {name: _halves(np.asarray(x), np.asarray(y), make, bound, seed)
              for name, (x, y, *_) in rows.items()}  # fmt: skip
    chosen = max(scores, key=lambda name: scores[name][0])
    return scores[chosen][1], chosen, {name: pair[1] for name, pair in scores.items()}


def _halves(
    ours: Float, reference: Float, make: Callable[[], Any], bound: Bound, seed: int
) -> tuple[float, float]:
    """Score within the fitting half (mean of four folds), and on the other half."""
    from sklearn.model_selection import StratifiedKFold

    if len(ours) != len(reference):
        raise ArgumentError(
            f"the published protocol needs samples of one size, found {len(ours)} and "
            f"{len(reference)}: cut the larger, or use `discrepancy`"
        )
    rng = np.random.default_rng(seed)
    half = len(reference) // 2
    # Unsorted, as published: the order of the rows decides which of the four folds they are in.
    r, o = (rng.choice(len(x), half, replace=False) for x in (reference, ours))
    fit = np.concatenate([reference[r], ours[o]])
    rest = np.concatenate([np.delete(reference, r, 0), np.delete(ours, o, 0)])
    middle, spread = fit.mean(0), fit.std(0)
    spread = np.where(spread > 10 * np.finfo(float).eps * np.abs(middle), spread, 1.0)
    fit, rest = (fit - middle) / spread, (rest - middle) / spread
    y, z = np.arange(len(fit)) < half, np.arange(len(rest)) < len(reference) - half
    parts = StratifiedKFold(4, shuffle=True, random_state=0).split(fit, y)
    inner = [_once(fit[a], y[a], fit[b], y[b], make, bound) for a, b in parts]
    return float(np.mean(inner)), _once(fit, y, rest, z, make, bound)


def _once(
    x: Float, y: NDArray[np.bool_], held: Float, z: NDArray[np.bool_], make: Callable[[], Any],
    bound: Bound,
) -> float:  # fmt: skip
    if (x == x[0]).all():
        return 0.0
    model = make().fit(x, y.astype(np.float64))
    chance = model.predict_proba(held)[:, 1]
    if bound == "tv":
        fitted = model.predict_proba(x)[:, 1]
        options = np.append(np.unique(fitted)[::-1], np.inf)
        best = options[np.argmax(sum_of_means(hits(fitted, y, options), y))]
        return float(sum_of_means(hits(chance, z, best), z))
    terms = 0.5 + 0.5 * np.log2(np.where(z, chance, 1 - chance) + 1e-10)
    return float(as_score(sum_of_means(terms, z), bound))


def graph_rows(names: Sequence[str], *sets: Graphs) -> dict[str, list[Float]]:
    """Descriptors of generated, reference (and training) graphs, for :func:`discrepancy`."""
    from graphdiff.graph.metrics.descriptors import describe

    return {name: describe(name, *sets) for name in names}


def molecule_rows(*sets: Sequence[Any], chemnet: bool | None = None) -> dict[str, list[Float]]:
    """Descriptors of molecules: fingerprints, properties, and ChemNet features where installed.

    Args:
        sets: RDKit molecules: generated, reference (and training) ones.
        chemnet: Whether to take ChemNet features; by default if their package is there.
    """
    from rdkit import Chem
    from rdkit.Chem import rdMolDescriptors

    from graphdiff.graph.metrics import fcd, molecular

    def properties(mol: Chem.Mol) -> list[float]:
        made: Any = rdMolDescriptors
        return [
            mol.GetNumHeavyAtoms(), made._CalcMolWt(mol), made.CalcCrippenDescriptors(mol)[0],
            made.CalcTPSA(mol), made.CalcNumHBD(mol), made.CalcNumHBA(mol), made.CalcNumRings(mol),
            made.CalcNumAromaticRings(mol), made.CalcNumRotatableBonds(mol),
            made.CalcFractionCSP3(mol), made.CalcNumHeteroatoms(mol), made.CalcNumSpiroAtoms(mol),
            made.CalcNumBridgeheadAtoms(mol),
        ]  # fmt: skip

    rows = {
        "fingerprint": [molecular.fingerprints(s).astype(np.float64) for s in sets],
        "properties": [np.asarray([properties(m) for m in s], np.float64) for s in sets],
    }
    if fcd.available() if chemnet is None else chemnet:
        texts = [[Chem.MolToSmiles(m) for m in s] for s in sets]
        rows["chemnet"] = [np.asarray(fcd.chemnet()(t), np.float64) for t in texts]
    return rows


def molecule_discrepancy(
    ours: Sequence[str], reference: Sequence[str], train: Sequence[str] | None, *, seed: int = 0,
    **options: Any,
) -> Metric:  # fmt: skip
    """The row ``pgd`` of molecules given as SMILES.

    Stereochemistry is removed from all sets: generated graphs cannot have it, and a classifier
    would look at nothing else.

    Args:
        ours: Generated molecules.
        reference: Test molecules.
        train: Training molecules for the floor.
        seed: Seed of subsets, folds and draws.
        options: See :func:`discrepancy_metric`.
    """
    from rdkit import Chem

    from graphdiff.graph.molecules import parse_smiles

    rng, most = np.random.default_rng([seed, 3]), int(options.get("most", MOST))
    sets = []
    for texts, limit in ((ours, most), (reference, most), (train or (), 2 * most)):
        chosen = np.sort(rng.permutation(len(texts))[:limit])
        mols = [parse_smiles(texts[int(i)]) for i in chosen]
        for mol in mols:
            Chem.RemoveStereochemistry(mol)
        sets.append(mols)
    rows = molecule_rows(*(sets if train else sets[:2]))
    return discrepancy_metric(rows, seed=seed, **options)


def discrepancy_metric(
    rows: Rows,
    *,
    classifier: str = "logistic",
    bound: Bound = "js",
    folds: int = 4,
    n_boot: int = 200,
    floors: int = FLOORS,
    most: int = MOST,
    seed: int = 0,
    population: str = "graphs",
    sha: str = "",
) -> Metric:
    """The score as the row ``pgd`` of a report.

    The floor is the score of as many training graphs as there are generated ones, drawn without
    replacement (a graph drawn twice could be fitted to and judged): the mean of ``floors`` draws
    and their range. Interval and resolution hold the classifiers fixed.

    Args:
        rows: As in :func:`discrepancy`, with the training graphs as an optional third part.
        classifier: See :func:`discrepancy`.
        bound: See :func:`discrepancy`.
        folds: See :func:`discrepancy`.
        n_boot: Bootstrap draws.
        floors: Training samples for the floor.
        most: Larger sets are cut to a random subset of this size.
        seed: Seed of folds, draws and subsets.
        population: Which samples these are.
        sha: Hash of the reference.
    """
    rng = np.random.default_rng([seed, 2])
    first = next(iter(rows.values()), [])
    picks = [np.sort(rng.permutation(len(x))[:most]) for x in first[:2]]
    about = f"{CLASSIFIERS.get(classifier, ('', classifier))[1]} on {', '.join(rows)}"
    shared: dict[str, Any] = {
        "n": len(picks[0]) if picks else 0, "n_reference": len(picks[1]) if picks else 0,
        "population": population, "kernel": about, "split_hash": sha[:16],
        "estimator": f"bound on {'Jensen-Shannon' if bound == 'js' else 'total variation'}, "
        f"{folds}-fold cross-fitted",
    }  # fmt: skip
    if picks and min(map(len, picks)) < 2 * folds:
        note = f"needs at least {2 * folds} generated and reference graphs"
        return Metric("pgd", float("nan"), note=note, **shared)
    cut = {k: [x[picks[0]], y[picks[1]]] for k, (x, y, *_) in rows.items()}
    settings: dict[str, Any] = {"classifier": classifier, "bound": bound, "folds": folds}
    found = discrepancy(cut, seed=seed, **settings)
    draws = found.bootstrap(n_boot, rng)
    note = _remark(found)
    low, span = None, None
    if len(first) > 2 and len(first[2]) >= 2 * folds:
        size = min(len(picks[0]), len(first[2]))
        if size < len(picks[0]):
            note += f"; the floor is of only {size} training graphs"
        values = []
        for i in range(floors):
            take = rng.permutation(len(first[2]))[:size]
            base = {k: [x[2][take], cut[k][1]] for k, x in rows.items()}
            values.append(discrepancy(base, seed=seed + i, subscores=False, **settings).value)
        low, span = float(np.mean(values)), percentile(np.asarray(values))
    return Metric(
        "pgd", found.value, interval=percentile(draws), floor=low, floor_interval=span,
        resolution=resolution(draws), note=note, **shared,
    )  # fmt: skip


def _remark(found: Discrepancy) -> str:
    """Which descriptors decided, and what each says alone."""
    times = Counter(found.chosen)
    by = ", ".join(f"{name} in {count}" for name, count in times.most_common())
    alone = ", ".join(f"{name} {number(value)}" for name, value in found.subscores.items())
    return f"chosen: {by} of {len(found.chosen)} folds; alone: {alone}"
