"""``graphdiff predict``: classes of the nodes of a graph by a fitted model, as csv."""

from __future__ import annotations

import csv
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphdiff.cli.common import Force, Json, Threads, emit, pick_device, set_threads

if TYPE_CHECKING:
    from graphdiff.data.nodes import NodeData
    from graphdiff.graph.sheaf.classifier import Prediction, SheafClassifier

__all__ = ["predict"]


def predict(
    model: Annotated[Path, typer.Argument(help="Folder that `graphdiff fit` has made.")],
    data: Annotated[
        str, typer.Option("--data", help="Folder or .npz of a graph, or a name as texas.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The .csv file to write.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Predict the class of every node: id, class, and the probability of each class."""
    from graphdiff.core.errors import DataError
    from graphdiff.data.node_sets import load_nodes
    from graphdiff.graph.sheaf.classifier import SheafClassifier

    set_threads(threads)
    place = pick_device(device)
    if out.is_dir():
        raise DataError(f"{out} is a folder; --out is the .csv file to write")
    if out.exists() and not force:
        raise DataError(f"{out} exists already; choose another --out, or replace it with --force")
    classifier = SheafClassifier.load(model).to(place)
    graph = load_nodes(data)
    found = classifier.predict(graph)
    _write(found, out)
    about = _summary(classifier, graph, found, out)
    if as_json:
        emit(about)
        return
    counts = ", ".join(f"{name} {k}" for name, k in about["counts"].items())
    print(f"{graph.n} nodes in {out}: {counts}")
    said = "; ".join(about.get("notes", ()))
    if "accuracy" in about:
        share = f"{about['accuracy']:.3f}"
        print(f"accuracy on the {about['labelled']} nodes with labels: {share} ({said})")
    elif said:
        print(said)


def _write(found: Prediction, out: Path) -> None:
    """Write the table under a temporary name first, so that no half file is left.

    Raises:
        DataError: It cannot be written.
    """
    from graphdiff.core.errors import DataError

    temporary = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "class", *(f"p_{name}" for name in found.names)])
            rows = zip(found.ids, found.labels, found.probabilities.tolist(), strict=True)
            for name, label, shares in rows:
                writer.writerow([name, label, *(f"{p:.6f}" for p in shares)])
        temporary.replace(out)
    except OSError as error:
        with suppress(OSError):  # where the folder is a file, there is none to remove
            temporary.unlink(missing_ok=True)
        raise DataError(f"cannot write {out}: {error.strerror}; choose another --out") from error


def _summary(
    classifier: SheafClassifier, graph: NodeData, found: Prediction, out: Path
) -> dict[str, Any]:
    """What ``--json`` prints.

    An accuracy is given where labels are known, but not on the data that the model was trained on
    (same edges, features and labels), whose card says what the test nodes gave.
    """
    names = list(found.names)
    about: dict[str, Any] = {
        "file": str(out),
        "nodes": graph.n,
        "classes": names,
        "counts": {name: found.labels.count(name) for name in names},
    }
    known = [k for k, c in enumerate(graph.labels.tolist()) if c >= 0]
    if known and not classifier.trained_on(graph):
        truth = [graph.classes[int(graph.labels[k])] for k in known]
        about |= _accuracy(truth, [found.labels[k] for k in known], names)
    return about


def _accuracy(truth: list[str], predicted: list[str], names: list[str]) -> dict[str, Any]:
    """Accuracy by the names of classes, with what must be said of it."""
    strange = sorted(set(truth) - set(names))
    some = ", ".join(strange[:4]) + " …" * (len(strange) > 4)
    if len(strange) == len(set(truth)):
        return {
            "labelled": len(truth),
            "notes": [
                f"no accuracy: the model knows none of the classes of this graph ({some}); its "
                f"own are {', '.join(names[:4])}{' …' * (len(names) > 4)}"
            ],
        }
    notes = ["if this graph shares nodes with the training graph, the model has seen their labels"]
    if strange:
        many = sum(name in strange for name in truth)
        notes.append(
            f"{many} nodes are of classes the model does not know, and count as wrong: {some}"
        )
    hits = sum(a == b for a, b in zip(truth, predicted, strict=True))
    return {"labelled": len(truth), "accuracy": hits / len(truth), "notes": notes}
