"""``graphdiff sample``: draw samples into a folder, batch by batch, so that a stop loses nothing.

While it runs, the folder holds ``request.json`` (what was asked) and one ``parts/*.npz`` of
finished states per batch. Running the same command again makes the samples that are missing. At
the end the parts become the files of the task (``samples.npz`` with the uncorrected samples, and
SMILES, GraphML, PNG … beside it) and ``samples.json`` says where all this comes from.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphdiff.cli.common import (
    Force,
    Json,
    Threads,
    confirm_out,
    emit,
    note,
    pairs,
    pick_device,
    progress_bar,
    set_threads,
    write_json,
)
from graphdiff.cli.sample_files import SAMPLES, keep_file, keep_picture, places, single_file
from graphdiff.cli.sample_parts import PARTS, REQUEST, open_request, part_ids, read_part, write_part

if TYPE_CHECKING:
    from graphdiff.guide import Guide
    from graphdiff.model import Model
    from graphdiff.task import Samples

__all__ = ["RAW", "REQUEST", "SAMPLES", "draw_samples", "sample"]

RAW = "samples.npz"


def sample(
    model: Annotated[str, typer.Argument(help="Name of a shipped model, or a model folder.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the samples, or one file (x.smi, x.fasta …)."),
    ] = None,
    n: Annotated[int | None, typer.Option("-n", "--number", help="How many samples.")] = None,
    seed: Annotated[int, typer.Option(help="Other seeds give other samples.")] = 0,
    start: Annotated[int, typer.Option(help="First sample id (shards of one big request).")] = 0,
    count: Annotated[
        int | None, typer.Option(help="Samples of this shard; the rest of the -n if absent.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the sampler.")] = None,
    solver: Annotated[str | None, typer.Option(help="Solver, instead of the card's.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Sampler setting, NAME=VALUE; repeatable.")
    ] = None,
    cond: Annotated[
        list[str] | None, typer.Option("--cond", help="Condition, NAME=VALUE; repeatable.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="What to generate, in words (models such as lggm).")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How closely to follow the condition; 1 is the model's.")
    ] = None,
    guide: Annotated[
        str | None,
        typer.Option(help="Guidance: best, smc, twisted, svdd, gilc, gradient."),
    ] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(help="[WEIGHT*]NAME[:LOW..HIGH], or FILE.py:FUNCTION; repeatable (a sum)."),
    ] = None,
    guide_settings: Annotated[
        list[str] | None,
        typer.Option("--guide-set", help="Setting of the guidance, e.g. particles=16; repeatable."),
    ] = None,
    picture: Annotated[
        str | None, typer.Option(help="Draw the first samples into a PNG of this name in --out.")
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(
            help="Draw the first samples as this PNG; --out is then a folder of its name."
        ),
    ] = None,
    weights: Annotated[str, typer.Option(help="best, ema or weights.")] = "best",
    batch_size: Annotated[int, typer.Option(min=1, help="Most samples in one batch.")] = 512,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Draw samples. Stopped or killed, it continues when the same command is run again."""
    from graphdiff.model import load

    start, count = _range(n, start, count)
    out, picture = places(out, picture, draw)
    set_threads(threads)
    overrides = {"steps": steps, "solver": solver, **pairs(settings, "--set")}
    loaded = load(model, which=weights).to(pick_device(device))
    words = {"prompt": prompt, "guidance": guidance}
    given = {**pairs(cond, "--cond"), **{k: v for k, v in words.items() if v is not None}}
    if unknown := loaded.task.unknown_words(prompt or ""):
        note(f"the model does not know {', '.join(unknown)}: these words change nothing")
    single = single_file(loaded, out, force)
    summary = draw_samples(
        loaded,
        out if single is None else out.with_name(f".{out.name}.run"),
        count,
        seed=seed,
        start=start,
        batch_size=batch_size,
        cond=given,
        guide=_guide(loaded, guide, reward, guide_settings),
        overrides={k: v for k, v in overrides.items() if v is not None},
        picture=picture,
        force=force,
        quiet=as_json,
    )
    if single is not None:
        summary = keep_file(summary, out, single)
    if draw is not None:
        summary = keep_picture(summary, draw)
    if as_json:
        emit(summary)
    else:
        info = summary["info"]
        rate = info["samples_per_second"]
        speed = f" ({rate:.1f} a second)" if rate else ""
        print(
            f"{info['n']} samples in {info['seconds']:.1f} s{speed}: {', '.join(summary['files'])}"
        )


def draw_samples(
    model: Model,
    out: Path,
    n: int,
    *,
    seed: int = 0,
    start: int = 0,
    batch_size: int = 512,
    cond: Mapping[str, Any] | None = None,
    guide: Guide | None = None,
    overrides: Mapping[str, Any] | None = None,
    picture: str | None = None,
    force: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Draw ``n`` samples into ``out``, or go on with what an interrupted call left there.

    ``picture`` is the name of a PNG of the first samples to draw into ``out``.

    Returns:
        What ``samples.json`` holds: ``request``, ``info`` and the names of the ``files``.

    Raises:
        DataError: ``out`` holds other results and ``force`` is not given.
    """
    request = {
        "model": model.name,
        "kind": model.task.kind,
        "weights_sha256": {k: v.sha256 for k, v in model.card.files.items()},
        "which": model.which,
        "n": n,
        "start": start,
        "seed": seed,
        "cond": dict(cond or {}),
        "sampler": dict(overrides or {}),
    }
    if guide is not None:
        request["guide"] = guide.facts()
    # Evaluation must know what the sampler made sure of, also if the card says so.
    if (keep := getattr(model.sampler(**(overrides or {})), "keep", "any")) != "any":
        request["keep"] = keep
    stream = model.sample_states  # checks the request, so that a wrong one leaves no folder
    options: dict[str, Any] = {"seed": seed, "start": start, "batch_size": batch_size, "cond": cond}
    if guide is not None:
        options["guide"] = guide
    stream(n, **options, **(overrides or {}))
    confirm_out(out, force=force, holds=SAMPLES)
    parts = open_request(out, request, force=force)
    done: dict[Path, list[int]] = {path: part_ids(path) for path in sorted(parts.glob("*.npz"))}
    kept = [i for ids in done.values() for i in ids]
    if kept:
        note(f"continuing: {len(kept)} of {n} samples are in {out} already")
    fresh: dict[Path, Samples] = {}
    try:
        with progress_bar(f"sampling {model.name}", quiet=quiet) as progress:
            batches = stream(n, skip=kept, progress=progress, **options, **(overrides or {}))
            for batch in batches:
                extra = {"network_calls": batch.network_calls, "seconds": batch.seconds}
                path = write_part(parts, batch.state, extra)
                fresh[path] = model.decode(batch.state, extra, seed=seed)
    except KeyboardInterrupt:
        have = len(kept) + sum(len(s.ids) for s in fresh.values())
        note(f"\nstopped: {have} of {n} samples are kept in {out}; the same command goes on")
        raise typer.Exit(130) from None
    again = [model.decode(*read_part(path), seed=seed) for path in done]
    samples = model.join([*again, *fresh.values()])
    return _finish(model, out, request, samples, picture)


def _finish(
    model: Model, out: Path, request: dict[str, Any], samples: Samples, picture: str | None
) -> dict[str, Any]:
    """Write what users expect, then remove the parts; ``samples.json`` comes last."""
    files = model.task.write(samples, out)
    if picture and len(samples.ids):
        files.append(model.task.draw(samples, out / picture))
    summary = {
        "request": request,
        "info": {**samples.info, "command": " ".join(sys.argv)},
        "dataset": model.dataset,
        "files": [path.name for path in files],
    }
    write_json(out / SAMPLES, summary)
    shutil.rmtree(out / PARTS, ignore_errors=True)
    (out / REQUEST).unlink(missing_ok=True)
    return {**summary, "files": [str(path) for path in files]}


# --- options ------------------------------------------------------------------------------------


def _range(n: int | None, start: int, count: int | None) -> tuple[int, int]:
    """First id and number of samples that ``-n``, ``--start`` and ``--count`` ask for."""
    from graphdiff.core.errors import ArgumentError

    for name, value in (("-n", n), ("--start", start), ("--count", count)):
        if value is not None and value < 0:
            raise ArgumentError(f"{name} is {value}, expected a number that is not negative")
    if n is None and count is None:
        raise ArgumentError("how many samples? give -n N (or --count for a shard)")
    if n is not None and start + (count or 0) > n:
        raise ArgumentError(
            f"--start {start} --count {count or 0} reaches beyond the {n} samples of -n {n}; "
            "lower them, or raise -n"
        )
    if count is None:
        count = (n or 0) - start
    return start, count


def _guide(
    model: Model, method: str | None, rewards: list[str] | None, settings: list[str] | None
) -> Guide | None:
    """Guidance of the options; all of them belong to ``--guide``."""
    from graphdiff.core.errors import ArgumentError

    if method is None:
        if rewards or settings:
            raise ArgumentError("--reward and --guide-set say how to guide; add --guide METHOD")
        return None
    if not rewards:
        known = ", ".join(sorted(model.task.scores())) or "your own FILE.py:FUNCTION"
        raise ArgumentError(f"--guide {method} needs a --reward; this model knows {known}")
    from graphdiff.guide import Guide

    given = pairs(settings, "--guide-set")
    known_settings = set(Guide.__dataclass_fields__) - {"reward", "method"}
    if unknown := sorted(set(given) - known_settings - {"workers"}):
        raise ArgumentError(
            f"--guide-set: unknown {', '.join(unknown)}; there are workers, "
            f"{', '.join(sorted(known_settings))}"
        )
    reward = model.reward(*rewards, workers=int(given.pop("workers", 0)))
    try:
        return Guide(reward, method, **given)  # type: ignore[arg-type]
    except TypeError as error:
        raise ArgumentError(f"--guide-set: {error}; give numbers") from error
