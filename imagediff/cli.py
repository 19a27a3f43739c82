"""``imagediff``: train, sample and evaluate image models; all but two options are graphdiff's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from graphdiff.cli.common import (
    Force,
    Json,
    Threads,
    emit,
    execute,
    make_app,
    pick_device,
    set_threads,
    table,
    write_json,
)
from graphdiff.cli.train import train

__all__ = ["app", "main"]

app = make_app("Class-conditional image diffusion on the core of graphdiff.")
app.command()(train)


@app.command()
def sample(
    model: Annotated[str, typer.Argument(help="Name of a shipped model, or a model folder.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for samples.npz and grid.png.")],
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="How many samples.")] = 100,
    seed: Annotated[int, typer.Option(help="Other seeds give other samples.")] = 0,
    start: Annotated[int, typer.Option(help="First sample id (shards of one big request).")] = 0,
    label: Annotated[
        int | None, typer.Option(help="Class of all samples; sample id modulo 10 if absent.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Weight of classifier-free guidance; 1 is none.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the sampler.")] = None,
    solver: Annotated[
        str | None, typer.Option(help="dpm-solver++, unipc, heun or ddim; the card's if absent.")
    ] = None,
    weights: Annotated[str, typer.Option(help="best, ema or weights.")] = "best",
    batch_size: Annotated[int, typer.Option(min=1, help="Most samples in one batch.")] = 512,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Draw images. Stopped or killed, it continues when the same command is run again."""
    from graphdiff.cli.sample import draw_samples
    from graphdiff.model import load

    set_threads(threads)
    loaded = load(model, which=weights).to(pick_device(device))
    summary = draw_samples(
        loaded,
        out,
        n,
        seed=seed,
        start=start,
        batch_size=batch_size,
        cond=_given(label=label, guidance=guidance),
        overrides=_given(steps=steps, solver=solver),
        force=force,
        quiet=as_json,
    )
    if as_json:
        emit(summary)
    else:
        info = summary["info"]
        print(f"{info['n']} images in {info['seconds']:.1f} s: {', '.join(summary['files'])}")


@app.command()
def evaluate(
    samples: Annotated[Path, typer.Argument(help="Folder that `imagediff sample` wrote.")],
    as_json: Json = False,
) -> None:
    """Score digits: classifier accuracy, feature distance, copying; writes metrics.json."""
    from imagediff.data.digits import load_digits
    from imagediff.metrics import evaluate as score
    from imagediff.metrics import load_samples

    ink, labels = load_samples(samples)
    metrics = score(ink, labels)
    report = {
        "metrics": [metric.to_dict() for metric in metrics],
        "reference": {split: load_digits(split).fingerprint() for split in ("train", "test")},
    }
    write_json((samples if samples.is_dir() else samples.parent) / "metrics.json", report)
    if as_json:
        emit(report)
        return
    rows = [
        (
            metric.name,
            f"{metric.value:.4f}",
            "" if metric.interval is None else "{:.4f} to {:.4f}".format(*metric.interval),
            f"{metric.floor:.4f}",
            metric.n,
            metric.note,
        )
        for metric in metrics
    ]
    table(rows, ("metric", "value", "95 % interval", "real digits", "n", "instrument"))


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def main() -> NoReturn:
    """Entry point of the ``imagediff`` script."""
    execute(app, "imagediff")
