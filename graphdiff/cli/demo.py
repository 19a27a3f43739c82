"""``graphdiff demo``: what ``make demo`` shows: sample, score and draw a thousand molecules."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from graphdiff.cli.common import Force, Json, Threads, emit, note, set_threads, write_json

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the results.")] = Path("out/demo"),
    model: Annotated[str, typer.Option(help="A shipped model of molecules.")] = "defog-qm9",
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="How many molecules.")] = 1000,
    seed: Annotated[int, typer.Option(help="Other seeds give other molecules.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Most samples in one batch.")] = 512,
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make molecules with a shipped model, score them honestly and draw them."""
    from graphdiff.cli.evaluate import score, summary, write_report
    from graphdiff.cli.sample import RAW, draw_samples
    from graphdiff.core.errors import DataError
    from graphdiff.data import Graphs
    from graphdiff.data import load as load_data
    from graphdiff.model import load

    set_threads(threads)
    began = time.perf_counter()
    loaded = load(model)
    if loaded.dataset is None:
        raise DataError(f"the card of {model} names no data set to compare with; choose another")
    note(f"{loaded!r}: {n} molecules, seed {seed}")
    done = draw_samples(
        loaded,
        out,
        n,
        seed=seed,
        batch_size=batch_size,
        picture="molecules.png",
        force=force,
        quiet=as_json,
    )
    note(f"sampled in {done['info']['seconds']:.0f} s; scoring")
    raw, reference = Graphs.load(out / RAW), load_data(loaded.dataset)
    result = score(raw, reference, quiet=as_json)
    facts = summary(result, reference, done, n)
    write_json(out / "metrics.json", facts)
    write_report(out / "report.html", raw, reference, result, facts)
    if as_json:
        emit(facts)
        return
    print(result.table())
    seconds = time.perf_counter() - began
    names = ", ".join(sorted(p.name for p in out.iterdir() if p.is_file()))
    print(f"\n{n} molecules in {seconds:.0f} s. In {out}: {names}")
