"""``graphdiff evaluate``: score what ``graphdiff sample`` wrote, or samples from anywhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from graphdiff.cli.common import (
    Json,
    Threads,
    emit,
    note,
    progress_bar,
    set_threads,
    write_json,
)
from graphdiff.cli.sample import RAW, REQUEST, SAMPLES

if TYPE_CHECKING:
    from graphdiff.data import Dataset
    from graphdiff.graph.metrics import Report

__all__ = ["ReportCommand", "evaluate", "score", "write_report"]


class ReportCommand(TyperCommand):
    """A command whose ``--report`` may stand alone: a file counts only if it ends in .html."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments with an empty value behind each lonely ``--report``."""
        full = []
        for word, after in zip(args, [*args[1:], ""], strict=True):
            full.append(word)
            if word == "--report" and not after.lower().endswith((".html", ".htm")):
                full.append("")
        return super().parse_args(ctx, full)


def evaluate(
    samples: Annotated[
        Path,
        typer.Argument(
            help="Folder of `graphdiff sample` or of edge lists, SMILES, npz, text, GraphML."
        ),
    ],
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="Data set to compare with; the model's own if absent."),
    ] = None,
    root: Annotated[Path | None, typer.Option("--root", help="Folder of the data sets.")] = None,
    pgd: Annotated[
        bool, typer.Option("--pgd", help="Add the cross-fitted classifier score, too.")
    ] = False,
    report: Annotated[
        str | None,
        typer.Option(
            "--report",
            metavar="[FILE.html]",
            help="Write a page with pictures, too; report.html beside the samples if no FILE.html "
            "follows.",
        ),
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Score samples; each number comes with its estimator, sample size and train-test floor."""
    from graphdiff.data import load

    set_threads(threads)
    raw, about = read_samples(samples)
    name = dataset or about.get("dataset")
    if name is None:
        from graphdiff.core.errors import ArgumentError

        raise ArgumentError(f"{samples} does not say what to compare with; give --dataset NAME")
    reference = load(name, root)
    result = score(raw, reference, pgd=pgd, quiet=as_json)
    if about.get("request", {}).get("keep"):
        result = result.by_construction(("validity", "vun"))
    facts = summary(result, reference, about, len(raw))
    folder = samples if samples.is_dir() else None
    if folder is not None:
        write_json(folder / "metrics.json", facts)
    if report is not None:
        path = Path(report) if report else (folder or samples.parent) / "report.html"
        note(f"wrote {write_report(path, raw, reference, result, facts)}")
    emit(facts) if as_json else print(result.table())


def read_samples(path: Path) -> tuple[Any, dict[str, Any]]:
    """Samples and what is known about them.

    Returns:
        :class:`~graphdiff.data.Graphs` or a list of SMILES, and the content of ``samples.json``.

    Raises:
        DataError: There is no such file, it is empty, or it is no file of samples (see
            :mod:`graphdiff.graph.read_samples`).
    """
    from graphdiff.core.errors import DataError
    from graphdiff.data import Graphs
    from graphdiff.graph.read_samples import read_samples as read_foreign

    about_file = path / SAMPLES
    if not about_file.is_file():
        if (path / REQUEST).is_file():
            raise DataError(
                f"{path} holds no {SAMPLES}: its sampling was not finished; run that command again"
            )
        return _not_empty(read_foreign(path), path), {}
    try:
        about = json.loads(about_file.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{about_file} is damaged ({error}); sample again") from error
    return _not_empty(Graphs.load(path / RAW), path), about


def score(raw: Any, reference: Dataset, *, pgd: bool = False, quiet: bool = False) -> Report:
    """Molecule metrics for a data set of molecules, the profile of the set for any other.

    ``pgd`` adds the classifier score (:mod:`graphdiff.graph.metrics.classifier`).

    Raises:
        DataError: The samples are no graphs, or SMILES meet a data set without molecules.
    """
    from graphdiff.core.errors import DataError
    from graphdiff.data import Graphs
    from graphdiff.graph.aromatic import has_aromatic, to_smiles_list
    from graphdiff.graph.metrics import MOLECULE_METRICS, evaluate_dataset, evaluate_molecules
    from graphdiff.graph.metrics.profiles import profile

    if reference.atoms is None and not isinstance(raw, Graphs):
        raise DataError(
            f"data set {reference.name!r} holds graphs, but the samples are SMILES; choose a data "
            "set of molecules, or give an npz of graphs"
        )
    with progress_bar("scoring", quiet=quiet) as update:

        def tell(stage: str, share: float) -> None:
            update(round(1000 * share), 1000)

        if reference.atoms is not None:
            if isinstance(raw, Graphs) and has_aromatic(raw):
                raw = to_smiles_list(raw, reference.atoms)
            names = (*MOLECULE_METRICS, "pgd") if pgd else MOLECULE_METRICS
            return evaluate_molecules(raw, reference, metrics=names, progress=tell)
        more: dict[str, Any] = {}
        if pgd:
            more["metrics"] = (*profile(reference.name).metrics, "pgd")
        return evaluate_dataset(raw, reference, progress=tell, **more)


def summary(result: Report, reference: Dataset, about: dict[str, Any], n: int) -> dict[str, Any]:
    """What ``metrics.json`` holds: every metric by name, and where the samples come from."""
    return {
        "n": n,
        "dataset": reference.name,
        **{metric.name: metric.value for metric in result},
        **result.to_dict(),
        "samples": {k: about[k] for k in ("request", "info") if k in about},
    }


def write_report(
    path: Path, raw: Any, reference: Dataset, result: Report, facts: dict[str, Any]
) -> Path:
    """One HTML page: see :mod:`graphdiff.graph.metrics.page`."""
    from graphdiff.graph.metrics.page import write_page

    return write_page(path, raw, reference, result, facts)


def _not_empty(samples: Any, path: Path) -> Any:
    from graphdiff.core.errors import DataError

    if not len(samples):
        raise DataError(f"{path} holds no samples: there is nothing to score")
    return samples
