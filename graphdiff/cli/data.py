"""``graphdiff data``: which data sets there are, and getting them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from graphdiff.cli.common import Json, emit, make_app, note, progress_bar, table

app = make_app("List, describe, fetch and prepare data sets.")

Root = Annotated[
    Path | None, typer.Option("--root", help="Folder to look into, before all other places.")
]


_SPLITS = ("train", "val", "test")


@app.callback()
def _root() -> None:
    """List, describe, fetch and prepare data sets."""


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Names, with what each holds."""
    from graphdiff.data import names
    from graphdiff.data.registry import architecture_names, learning_names
    from graphdiff.data.sources import card

    known = (*names(), *architecture_names(), *learning_names())
    cards = {name: card(name) for name in known}
    if as_json:
        emit(cards)
    else:
        table([(n, c.get("title", ""), c.get("licence", "")) for n, c in cards.items()],
              ("name", "content", "licence"))  # fmt: skip


@app.command()
def info(name: str, root: Root = None, as_json: Json = False) -> None:
    """Load a data set; print its size, splits, checksums and provenance."""
    from graphdiff.data import load
    from graphdiff.data.registry import architecture_names, learning_names

    if name in architecture_names():
        _architectures(name, root, as_json)
        return
    if name in learning_names():
        _learning(name, as_json)
        return
    with progress_bar(f"reading {name}", quiet=as_json):
        dataset = load(name, root)
    splits = {split: dataset.fingerprint(split) for split in dataset.splits}
    failures = dataset.card.get("failures", [])
    kind, sizes = _sizes(dataset)
    facts = {
        "name": dataset.name,
        **sizes,
        "failures": len(failures),
        "splits": splits,
        "card": {key: value for key, value in dataset.card.items() if key != "failures"},
    }
    if as_json:
        emit(facts)
        return
    rows = [(key, str(value)) for key, value in facts.items() if key not in ("splits", "card")]
    rows += [
        (f"split {k}", f"{v['n']} {kind}, sha256 {v['sha256'][:16]}") for k, v in splits.items()
    ]
    rows += [(k, " ".join(str(v).split())) for k, v in dataset.card.items() if k != "failures"]
    table(rows, ("field", "value"), name)


def _learning(name: str, as_json: bool) -> None:
    """The card of a graph to learn on, how it is read, and which of its files are there."""
    from graphdiff.data.registry import reader
    from graphdiff.data.sources import card, find

    about = card(name)
    there = {entry["file"]: str(find([entry["file"]]) or "") for entry in about["files"]}
    if as_json:
        emit({"name": name, "read": reader(name), "files": there, "card": about})
        return
    rows = [("read it by", reader(name))]
    rows.append(("files found", f"{sum(map(bool, there.values()))} of {len(there)}"))
    rows += [(k, " ".join(str(v).split())) for k, v in about.items() if k not in ("files", "fetch")]
    table(rows, ("field", "value"), name)


def _architectures(name: str, root: Path | None, as_json: bool) -> None:
    """Size, metrics with their ranges, checksums and card of a table of architectures."""
    from graphdiff.data.sources import card
    from graphdiff.graph.nag.tables import load_meta, load_table

    with progress_bar(f"reading {name}", quiet=as_json):
        found: Any = load_meta(root) if name.endswith("meta") else load_table(name, root)
    metrics = found.metrics
    ranges = {k: [float(v.min()), float(v.max())] for k, v in metrics.items()}
    about = card(name)
    if as_json:
        emit({"name": name, "architectures": len(found), "metrics": ranges,
              "sha256": dict(found.sha256), "card": about})  # fmt: skip
        return
    rows = [("architectures", str(len(found)))]
    rows += [(f"metric {k}", f"{low:g} to {high:g}") for k, (low, high) in ranges.items()]
    rows += [(f"sha256 {k}", v[:16]) for k, v in found.sha256.items()]
    rows += [(k, " ".join(str(v).split())) for k, v in about.items() if k not in ("files", "fetch")]
    table(rows, ("field", "value"), name)


@app.command()
def fetch(
    name: str,
    root: Annotated[
        Path | None, typer.Option("--root", help="Where to put it; the user cache if absent.")
    ] = None,
) -> None:
    """Download a data set from its original source, and check it."""
    from graphdiff.data.fetch import fetch as get

    with progress_bar(f"fetching {name}") as update:
        path = get(name, root, progress=update)
    print(path)


@app.command()
def build(
    name: str,
    root: Root = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Your networks, FOLDER/DOMAIN/FILE (lggm-corpus only)."),
    ] = None,
    nodes: Annotated[
        tuple[int, int] | None,
        typer.Option("--nodes", help="Smallest and largest subgraph (lggm-corpus only)."),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="network or regions (lggm-corpus only).")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of a random set.")] = None,
    as_json: Json = False,
) -> None:
    """Prepare a data set now (parse, check, cache), so that the first training need not.

    lggm-corpus draws subgraphs of real networks over many domains: of those that the package
    knows and finds, or of your own with --folder.
    """
    from graphdiff.data import load

    name = "lggm" if name == "lggm-corpus" else name
    given = {"folder": folder, "nodes": nodes, "split": split, "seed": seed}
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    with progress_bar(f"building {name}", quiet=as_json) as update:
        if name == "lggm":
            options["progress"] = update
        dataset = load(name, root, **options)
    failures = dataset.card.get("failures", [])
    if as_json:
        emit({"name": name, **_sizes(dataset)[1], "card": dataset.card})
        return
    for where, reason in failures[:10]:
        note(f"not read: entry {where}: {reason}")
    if name == "lggm":
        _corpus(dataset.card)
    kind, sizes = _sizes(dataset)
    print(f"{name}: {sizes[kind]} {kind}, {len(failures)} entries that cannot be read")


def _sizes(dataset: Any) -> tuple[str, dict[str, Any]]:
    """What a data set holds (graphs or sequences), and how many and how large they are."""
    from graphdiff.sequence.dataset import SequenceDataset

    if isinstance(dataset, SequenceDataset):
        s = dataset.sequences
        known = {k: int((v == v).sum()) for k, v in dataset.values.items()}
        return "sequences", {
            "sequences": len(s),
            "alphabet": s.alphabet.name,
            "max_length": s.max_length,
            "values": known,
        }
    return "graphs", {
        "graphs": len(dataset.graphs),
        "atoms": list(dataset.atoms or ()),
        "max_nodes": int(dataset.graphs.num_nodes.max()),
    }


def _corpus(card: dict[str, Any]) -> None:
    """The domains of a corpus as a table, and what is missing as notes."""
    rows = []
    for domain, facts in card["domains"].items():
        graphs = facts.get("graphs", {})
        members = {name for names in facts.get("networks", {}).values() for name in names}
        counts = [graphs.get(s, 0) for s in _SPLITS]
        means = [facts.get(key, "") for key in ("nodes", "average_degree", "clustering")]
        rows.append((domain, facts["split"], len(members), *counts, *means))
    header = ("domain", "split", "networks", *_SPLITS, "nodes", "degree", "clustering")
    table(rows, header, "subgraphs by domain")
    if card["missing"]:
        note(f"{len(card['missing'])} networks were not found: {', '.join(card['missing'])}")
