"""``graphdiff nag``: search for neural architectures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphdiff.cli.common import make_app

if TYPE_CHECKING:
    from graphdiff.graph.nag.problem import History, Problem

__all__ = ["app"]

app = make_app("Neural architectures: search a space under a predictor's guidance.")
METHODS = ("nag", "transfer", "bananas", "evolution", "local", "random")
GENERATORS = {"nasbench201": "nag-nb201"}


@app.callback()
def _root() -> None:
    """Neural architectures: search a space under a predictor's guidance."""


@app.command()
def search(
    space: Annotated[
        str, typer.Option(help="nasbench201, macro, mobilenetv3, or your own as FILE.py:CLASS.")
    ] = "nasbench201",
    dataset: Annotated[
        str | None,
        typer.Option(help="What to maximise: a column of the space's table, as cifar100."),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(help="Or your own, FILE.py:FUNCTION of one Architecture; higher is better."),
    ] = None,
    budget: Annotated[int, typer.Option(help="Architectures that are evaluated.")] = 40,
    constraint: Annotated[
        list[str] | None,
        typer.Option(help="NAME<BOUND of a column that costs nothing, as latency:fpga<5ms."),
    ] = None,
    method: Annotated[str, typer.Option(help=", ".join(METHODS))] = "nag",
    model: Annotated[
        str | None,
        typer.Option(help="Generator; by default the shipped one of the space."),
    ] = None,
    experience: Annotated[
        bool,
        typer.Option(help="Begin from the published meta-training triples (NAS-Bench-201)."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the answers, the curve and the best.")
    ] = None,
) -> None:
    """Search a space with as few evaluations as possible."""
    import numpy as np

    from graphdiff.core.errors import ArgumentError

    if method not in METHODS:
        raise ArgumentError(f"unknown method {method!r}, expected one of {', '.join(METHODS)}")
    problem = _problem(space, dataset, objective, constraint or [])
    told = _experience(problem.space, experience or method == "transfer")
    generator = _generator(problem.space, model) if method in ("nag", "transfer") else None

    from graphdiff.graph.nag.problem import History

    history = History(problem, budget, _tell)
    rng = np.random.default_rng(seed)
    try:
        _run(method, history, rng, generator, told)
    except KeyboardInterrupt:
        print(f"stopped after {len(history)} of {budget} evaluations")
    _report(history, out, {"method": method, "seed": seed, "dataset": dataset or objective})


def _run(method: str, history: History, rng: Any, generator: Any, told: Any) -> None:
    from graphdiff.graph.nag import baselines
    from graphdiff.graph.nag.search import nag_search

    if generator is not None:
        nag_search(history, rng, generator, experience=told, refit=method == "nag")
        return
    {
        "random": baselines.random_search,
        "evolution": baselines.evolution,
        "local": baselines.local_search,
        "bananas": baselines.bananas,
    }[method](history, rng)


def _problem(
    place: str, dataset: str | None, objective: str | None, constraints: list[str]
) -> Problem:
    """The search that the options describe.

    Raises:
        ArgumentError: Not one of dataset and objective, or an unknown column.
    """
    import numpy as np

    from graphdiff.core.errors import ArgumentError
    from graphdiff.graph.nag.architecture import Architecture
    from graphdiff.graph.nag.problem import Problem, parse_limit
    from graphdiff.graph.nag.spaces import find_space
    from graphdiff.graph.nag.tables import load_table, table_names

    space = find_space(place)
    if (dataset is None) == (objective is None):
        raise ArgumentError(
            "say what to maximise: --dataset NAME (a column of the space's table) or --objective "
            "FILE.py:FUNCTION, one of them"
        )
    table = load_table(place) if place in table_names() and (dataset or constraints) else None

    def column(name: str) -> Any:
        if table is None:
            raise ArgumentError(
                f"{name!r} is a column of a table, but {space.name!r} has none; tables exist for "
                f"{', '.join(table_names())}"
            )
        table.value(name, table.archs[:1])  # an unknown one is named now
        return lambda archs: table.value(name, archs)

    if dataset is not None:
        measure = column(dataset)
    else:
        from graphdiff.finetune.specs import OwnScore

        assert objective is not None
        own = OwnScore(objective)
        own.function  # noqa: B018  (a wrong one is named now)

        def measure(archs: Any) -> Any:
            return np.array([own(Architecture(space, one)) for one in archs], float)

    limits = tuple(parse_limit(text, column) for text in constraints)
    return Problem(space, measure, limits)


def _experience(space: Any, wanted: bool) -> Any:
    from graphdiff.core.errors import ArgumentError

    if not wanted:
        return None
    if space.name != "nasbench201":
        raise ArgumentError(
            f"experience of earlier tasks is published for nasbench201 only, not for {space.name!r}"
        )
    from graphdiff.graph.nag.surrogate import Experience
    from graphdiff.graph.nag.tables import load_meta

    meta = load_meta()
    return Experience.of(space, meta.archs, meta.accuracy)


def _generator(space: Any, model: str | None) -> Any:
    from graphdiff.core.errors import ArgumentError
    from graphdiff.graph.nag.search import Generator
    from graphdiff.model import load

    name = model or GENERATORS.get(space.name)
    if name is None:
        raise ArgumentError(
            f"no generator of {space.name!r} is shipped; train one (graphdiff train nag-nb201 "
            "--set data.space=FILE.py:CLASS --out FOLDER) and give it by --model, or choose "
            "another --method"
        )
    made = Generator(load(name))  # refuses models of another kind
    found = made.model.task.space.name
    if found != space.name:
        raise ArgumentError(
            f"model {name!r} makes architectures of {found!r}, but the search is in {space.name!r}"
        )
    return made


def _tell(history: History) -> None:
    q = len(history)
    if q == 1 or history.values[-1] > max(history.values[:-1]) or q == history.budget:
        print(f"{q:5d} evaluated, best {max(history.values):.4g}", flush=True)


def _report(history: History, out: Path | None, facts: dict[str, Any]) -> None:
    import json

    import numpy as np

    from graphdiff.graph.nag.architecture import Architecture

    if not len(history):
        return
    space = history.problem.space
    order = np.argsort(-np.array(history.values))[:5]
    for k in order:
        print(f"{history.values[k]:10.4f}  {Architecture(space, history.archs[int(k)])}")
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    rows = [
        {"value": value, **space.describe(one)}
        for value, one in zip(history.values, history.archs, strict=True)
    ]
    limits = [f"{x.name}{x.sense}{x.bound:g}" for x in history.problem.limits]
    record = {"space": space.name, "limits": limits, **facts, "answers": rows}
    (out / "search.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    from graphdiff.graph.nag.curves import draw_curves
    from graphdiff.graph.nag.draw import draw_architectures

    draw_architectures(space, history.archs[order], out / "best.png", count=5,
                       values=[history.values[k] for k in order])  # fmt: skip
    draw_curves({str(facts["method"]): [history.best()]}, out / "curve.png")
    print(f"wrote {out}/search.json, best.png and curve.png")
