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
    from graphdiff.sequence.dataset import SequenceDataset
    from graphdiff.sequence.sequences import Sequences

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
            help="Folder of `graphdiff sample`, or a file or folder of edge lists, SMILES, npz, "
            "text, GraphML, FASTA."
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
    motifs: Annotated[
        Path | None,
        typer.Option("--motifs", help="Motifs of MEME or JASPAR to count in sequences, too."),
    ] = None,
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
    raw = with_alphabet(raw, reference)
    result = score(raw, reference, pgd=pgd, motifs=motifs, quiet=as_json)
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
        :class:`~graphdiff.data.Graphs`, a list of SMILES, or
        :class:`~graphdiff.sequence.sequences.Sequences`, and the content of ``samples.json``.

    Raises:
        DataError: There is no such file, it is empty, or it is no file of samples (see
            :mod:`graphdiff.graph.read_samples` and :mod:`graphdiff.sequence.read_samples`).
    """
    from graphdiff.core.errors import DataError
    from graphdiff.data import Graphs
    from graphdiff.graph.read_samples import read_samples as read_foreign
    from graphdiff.sequence.read_samples import holds_sequences, read_sequences

    about_file = path / SAMPLES
    if not about_file.is_file():
        if (path / REQUEST).is_file():
            raise DataError(
                f"{path} holds no {SAMPLES}: its sampling was not finished; run that command again"
            )
        read = read_sequences if holds_sequences(path) else read_foreign
        return _not_empty(read(path), path), {}
    try:
        about = json.loads(about_file.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{about_file} is damaged ({error}); sample again") from error
    raw = path / RAW
    return _not_empty((read_sequences if holds_sequences(raw) else Graphs.load)(raw), path), about


def with_alphabet(raw: Any, reference: Dataset | SequenceDataset) -> Any:
    """Samples as they are; sequences read with the alphabet of the data set.

    A FASTA file does not say what it holds, so what looks like DNA may be a protein.

    Raises:
        DataError: A letter is none of that alphabet.
    """
    from graphdiff.sequence.dataset import SequenceDataset
    from graphdiff.sequence.sequences import Sequences

    if not isinstance(raw, Sequences) or not isinstance(reference, SequenceDataset):
        return raw
    letters = reference.sequences.alphabet
    return raw if raw.alphabet == letters else Sequences.from_strings(raw.strings(), letters)


def score(
    raw: Any,
    reference: Dataset | SequenceDataset,
    *,
    pgd: bool = False,
    motifs: Path | None = None,
    quiet: bool = False,
) -> Report:
    """Molecule metrics for molecules, sequence metrics for sequences, else the set's profile.

    ``pgd`` adds the classifier score (:mod:`graphdiff.graph.metrics.classifier`) to graphs,
    ``motifs`` a file of motifs the motif correlation to sequences.

    Raises:
        DataError: The samples are of another kind than the data set.
        ArgumentError: An option does not fit the kind of data.
    """
    from graphdiff.core.errors import ArgumentError, DataError
    from graphdiff.sequence.dataset import SequenceDataset
    from graphdiff.sequence.sequences import Sequences

    if isinstance(reference, SequenceDataset):
        if not isinstance(raw, Sequences):
            raise DataError(
                f"data set {reference.name!r} holds sequences, but the samples are graphs or "
                "molecules; choose another data set, or give a FASTA file"
            )
        if pgd:
            raise ArgumentError("--pgd scores graphs; leave it out for sequences")
        return _score_sequences(raw, reference, motifs, quiet)
    if isinstance(raw, Sequences):
        raise DataError(
            f"data set {reference.name!r} holds graphs, but the samples are sequences; choose a "
            "data set of sequences, or the path of a FASTA file"
        )
    if motifs is not None:
        raise ArgumentError("--motifs counts motifs of sequences; leave it out for graphs")
    return _score_graphs(raw, reference, pgd, quiet)


def _score_sequences(
    raw: Sequences, reference: SequenceDataset, motifs: Path | None, quiet: bool
) -> Report:
    from graphdiff.sequence.metrics.evaluate import evaluate_sequences
    from graphdiff.sequence.metrics.motifs import read_motifs

    found = None if motifs is None else read_motifs(motifs)
    with progress_bar("scoring", quiet=quiet) as update:
        return evaluate_sequences(
            raw,
            reference,
            motifs=found,
            progress=lambda stage, share: update(round(1000 * share), 1000),
        )


def _score_graphs(raw: Any, reference: Dataset, pgd: bool, quiet: bool) -> Report:
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


def summary(
    result: Report, reference: Dataset | SequenceDataset, about: dict[str, Any], n: int
) -> dict[str, Any]:
    """What ``metrics.json`` holds: every metric by name, and where the samples come from."""
    return {
        "n": n,
        "dataset": reference.name,
        **{metric.name: metric.value for metric in result},
        **result.to_dict(),
        "samples": {k: about[k] for k in ("request", "info") if k in about},
    }


def write_report(
    path: Path,
    raw: Any,
    reference: Dataset | SequenceDataset,
    result: Report,
    facts: dict[str, Any],
) -> Path:
    """One HTML page: :mod:`graphdiff.graph.metrics.page`, :mod:`graphdiff.sequence.page`."""
    from graphdiff.graph.metrics.page import write_page
    from graphdiff.sequence.dataset import SequenceDataset
    from graphdiff.sequence.page import write_sequence_page

    if isinstance(reference, SequenceDataset):
        return write_sequence_page(path, raw, reference, result, facts)
    return write_page(path, raw, reference, result, facts)


def _not_empty(samples: Any, path: Path) -> Any:
    from graphdiff.core.errors import DataError

    if not len(samples):
        raise DataError(f"{path} holds no samples: there is nothing to score")
    return samples
