"""``graphdiff convert``: published checkpoints of original repositories become model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphdiff.cli.common import Force, Json, confirm_out, emit, make_app

app = make_app("Turn a published checkpoint into a model folder. Nothing is ever unpickled.")


@app.callback()
def _root() -> None:
    """Turn a published checkpoint into a model folder. Nothing is ever unpickled."""


@app.command()
def gdss(
    path: Annotated[Path, typer.Argument(help="Checkpoint (.pt or .pth) of GDSS.")],
    out: Annotated[Path, typer.Argument(help="Model folder to make.")],
    force: Force = False,
    as_json: Json = False,
) -> None:
    """GDSS (Jo et al., 2022): networks of every depth and width, both kinds of node network."""
    import shutil

    from graphdiff.graph.convert_gdss import convert
    from graphdiff.train.checkpoint import read_card

    confirm_out(out, force=force, holds="card.json")
    if force:
        shutil.rmtree(out)
    elif not any(out.iterdir()):
        out.rmdir()  # the model is written under another name and then renamed to this one
    convert(path, out)
    card = read_card(out)
    if as_json:
        emit({"model": str(out), "kind": card.kind, "data": card.data, "task": card.task})
    else:
        print(
            f"{out}: a {card.kind} model; sample it with: graphdiff sample {out} -n 100 --out DIR"
        )


@app.command()
def mpnn(
    path: Annotated[Path, typer.Argument(help="ProteinMPNN weights (.pt).")],
    out: Annotated[Path, typer.Argument(help="Model folder to make.")],
    decoder: Annotated[
        str, typer.Option(help="causal (as published) or full (to be trained).")
    ] = "causal",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """ProteinMPNN (Dauparas et al., 2022): models of full backbones."""
    import shutil

    from graphdiff.core.errors import ArgumentError
    from graphdiff.sequence.convert_mpnn import convert

    if decoder not in ("causal", "full"):
        raise ArgumentError(f"--decoder {decoder!r}: expected causal or full")
    confirm_out(out, force=force, holds="card.json")
    if force:
        shutil.rmtree(out)
    elif not any(out.iterdir()):
        out.rmdir()
    convert(path, out, decoder=decoder)  # type: ignore[arg-type]
    if as_json:
        emit({"model": str(out), "kind": "inverse-folding", "decoder": decoder})
    else:
        print(f"{out}: an inverse-folding model; give it a backbone with --cond backbone=FILE.pdb")
