"""``graphdiff data``: which data sets there are, and getting them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphdiff.cli.common import Json, emit, make_app, note, progress_bar, table

app = make_app("List, describe, fetch and prepare data sets.")

Root = Annotated[
    Path | None, typer.Option("--root", help="Folder to look into, before all other places.")
]


@app.callback()
def _root() -> None:
    """List, describe, fetch and prepare data sets."""


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Names, with what each holds."""
    from graphdiff.data import names
    from graphdiff.data.sources import card

    cards = {name: card(name) for name in names()}
    if as_json:
        emit(cards)
    else:
        table([(n, c.get("title", ""), c.get("licence", "")) for n, c in cards.items()],
              ("name", "content", "licence"))  # fmt: skip


@app.command()
def info(name: str, root: Root = None, as_json: Json = False) -> None:
    """Load a data set; print its size, splits, checksums and provenance."""
    from graphdiff.data import load

    with progress_bar(f"reading {name}", quiet=as_json):
        dataset = load(name, root)
    splits = {split: dataset.fingerprint(split) for split in dataset.splits}
    failures = dataset.card.get("failures", [])
    facts = {
        "name": dataset.name,
        "graphs": len(dataset.graphs),
        "atoms": list(dataset.atoms or ()),
        "max_nodes": int(dataset.graphs.num_nodes.max()),
        "failures": len(failures),
        "splits": splits,
        "card": {key: value for key, value in dataset.card.items() if key != "failures"},
    }
    if as_json:
        emit(facts)
        return
    rows = [(key, str(value)) for key, value in facts.items() if key not in ("splits", "card")]
    rows += [
        (f"split {k}", f"{v['n']} graphs, sha256 {v['sha256'][:16]}") for k, v in splits.items()
    ]
    rows += [(k, " ".join(str(v).split())) for k, v in dataset.card.items() if k != "failures"]
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
def build(name: str, root: Root = None) -> None:
    """Prepare a data set now (parse, check, cache), so that the first training need not."""
    from graphdiff.data import load

    with progress_bar(f"building {name}"):
        dataset = load(name, root)
    failures = dataset.card.get("failures", [])
    for where, reason in failures[:10]:
        note(f"not read: entry {where}: {reason}")
    print(f"{name}: {len(dataset.graphs)} graphs, {len(failures)} entries that cannot be read")
