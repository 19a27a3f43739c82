"""``graphdiff fit``: learn the classes of nodes on your own graph, beside what must be beaten."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphdiff.cli.common import (
    Force,
    Json,
    Threads,
    confirm_out,
    emit,
    make_app,
    note,
    pick_device,
    progress_bar,
    set_threads,
    table,
    write_json,
)

if TYPE_CHECKING:
    from graphdiff.data.nodes import NodeData, Split
    from graphdiff.graph.sheaf.comparison import Comparison
    from graphdiff.graph.sheaf.plan import Plan

__all__ = ["app"]

app = make_app("Learn the classes of the nodes of a graph.")
CARD = "card.json"


@app.callback()
def _root() -> None:
    """Learn the classes of the nodes of a graph; `graphdiff predict` uses what was learned."""


@app.command()
def sheaf(
    data: Annotated[
        str, typer.Option("--data", help="Folder or .npz of your graph, or a name as texas.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the model and its report.")],
    split: Annotated[
        str | None,
        typer.Option(
            help="public, random, random:48/32/20, or a .csv or .npz file; by default public "
            "where the data has splits, else random."
        ),
    ] = None,
    splits: Annotated[
        int | None, typer.Option(min=1, help="Fit on the first K splits; all (ten at most).")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting, e.g. network.stalk=4, fit.lr=0.02."),
    ] = None,
    tune: Annotated[
        int, typer.Option(min=0, help="Settings to draw and choose among, on validation only.")
    ] = 0,
    baselines: Annotated[
        bool,
        typer.Option(help="Fit majority, label propagation, MLP, GCN and identity sheaf as well."),
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of initialisation and random splits.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Sheaf diffusion. Ctrl-C keeps the best weights so far."""
    from graphdiff.graph.evaluate.probes import report
    from graphdiff.graph.sheaf.fitting import compare
    from graphdiff.train.stop import StopRequest

    set_threads(threads)
    out, place = out.resolve(), pick_device(device)
    plan = _plan(data, settings or [])
    graph, chosen = _read(data, split, splits, seed)
    _free(out, force)
    here = out.samefile(".")
    if not as_json:
        _tell(graph, chosen)
    findings = [f.to_dict() for f in report(graph, chosen)]
    for finding in findings:
        if finding["leak"]:
            note(f"warning: {finding['probe']}: {finding['message']}")
    with StopRequest() as asked, progress_bar(f"fitting {graph.name}", quiet=as_json) as update:
        if not as_json:
            note("fitting; Ctrl-C stops it and keeps the best weights so far")
        found = compare(
            graph, chosen, plan, seed=seed, tune=tune, baselines=baselines,
            device=place, progress=update, stop=lambda: asked.number is not None,
        )  # fmt: skip
    summary = _keep(graph, found, findings, out)
    if as_json:
        emit(summary)
    else:
        _show(found, out)
    if here:
        note(f"{out} was made anew; enter it again (cd .) to see what it holds")
    if asked.number is not None:
        note(f"stopped: the best weights so far are kept in {out}")
        raise typer.Exit(128 + asked.number)


def _plan(data: str, settings: list[str]) -> Plan:
    """Settings for a public graph, or those for any other, with ``--set`` applied.

    Raises:
        ConfigError: A setting is unknown or out of range.
    """
    from dataclasses import asdict

    from graphdiff.config import apply_overrides, validate
    from graphdiff.data.node_sets import node_set_names
    from graphdiff.graph.sheaf.plan import Plan
    from graphdiff.graph.sheaf.presets import preset

    plan = Plan()
    if data in node_set_names():
        known = preset(data)
        plan = Plan(known.network, known.fit, "rows" if known.normalise else "none")
    return validate(Plan, apply_overrides(asdict(plan), settings), where="settings")


def _read(
    data: str, split: str | None, count: int | None, seed: int
) -> tuple[NodeData, tuple[Split, ...]]:
    """The graph and the splits that are asked for.

    Raises:
        ArgumentError: More splits are asked for than there are.
        DataError: There are no labels to learn from.
    """
    from graphdiff.core.errors import ArgumentError, DataError
    from graphdiff.data.node_sets import load_nodes
    from graphdiff.data.node_splits import COUNT, read_split

    graph = load_nodes(data)
    if not bool((graph.labels >= 0).any()):
        raise DataError(f"{graph.name} has no labels to learn from; add a labels.csv (id,label)")
    word = split or ("public" if graph.splits else "random")
    many = read_split(word, graph, max(count or COUNT, 1), seed)
    if count is not None and count > len(many):
        raise ArgumentError(
            f"--splits {count}: there are {len(many)}; ask for fewer, or take --split random"
        )
    chosen = many[: count or COUNT]
    if any(not len(s.val) for s in chosen):
        raise DataError(
            f"--split {word}: a split has no validation nodes, on which the weights are chosen; "
            "give each class more labels, or another split"
        )
    return graph, chosen


def _free(out: Path, force: bool) -> None:
    """Refuse an output folder with a model in it, unless forced, or with anything else.

    Raises:
        DataError: There is something.
    """
    from graphdiff.core.errors import DataError

    confirm_out(out, force=force, holds=CARD)
    other = [p.name for p in out.iterdir()]
    if other and CARD not in other:
        raise DataError(
            f"{out} holds other files ({', '.join(sorted(other)[:4])}); a model has a folder of "
            "its own, so choose another --out"
        )


def _tell(graph: NodeData, splits: tuple[Split, ...]) -> None:
    about = graph.fingerprint()
    note(
        f"{graph.name}: {about['nodes']} nodes, {about['edges']} edges, {about['features']} "
        f"features, {about['classes']} classes, {graph.homophily:.0%} of edges join equal classes; "
        f"{len(splits)} splits of {len(splits[0].train)}/{len(splits[0].val)}/"
        f"{len(splits[0].test)} nodes"
    )
    if any(not len(s.test) for s in splits):
        note("note: a split has no test nodes; its validation score is all that is reported")
    for key, value in graph.notes.items():
        note(f"note: {key.replace('_', ' ')}: {value}")


def _keep(
    graph: NodeData, found: Comparison, findings: list[dict[str, Any]], out: Path
) -> dict[str, Any]:
    """Write model and report; return what ``--json`` prints.

    The model comes first: nothing that is made of the scores can lose it.
    """
    from graphdiff.graph.sheaf.report import draw_report, facts, markdown
    from graphdiff.train.checkpoint import update_metrics

    assert found.classifier is not None
    note_ = "Weights of the split with the best validation score, chosen on validation."
    found.classifier.save(out, overwrite=True, notes=note_)
    keep = ("n", "val", "test", "low", "high", "difference", "p")
    across = {
        row["method"]: {k: row[k] for k in keep if row[k] is not None} for row in found.rows()
    }
    update_metrics(out, {"over_splits": {"score": found.score, **across}})
    about = facts(graph, found, findings)
    write_json(out / "report.json", about)
    text = markdown(graph, found, findings, " ".join(["graphdiff", *sys.argv[1:]]))
    (out / "report.md").write_text(text, "utf-8")
    draw_report(graph, found, out / "report.png")
    files = [CARD, "weights.safetensors", "report.json", "report.md", "report.png"]
    return {**about, "files": [str(out / name) for name in files]}


def _show(found: Comparison, out: Path) -> None:
    from graphdiff.graph.sheaf.report import HEADER, table_rows

    table(table_rows(found), HEADER, f"{found.score}, %; intervals over {found.over}")
    print(f"model of split {found.split} and report: {out}")
