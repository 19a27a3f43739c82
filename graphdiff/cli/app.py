"""``graphdiff``: train, sample, evaluate, fit, predict, data, bench and more; one file each."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from graphdiff.cli.bench import bench
from graphdiff.cli.card import card
from graphdiff.cli.common import execute, make_app
from graphdiff.cli.convert import app as convert_app
from graphdiff.cli.data import app as data_app
from graphdiff.cli.demo import demo
from graphdiff.cli.evaluate import ReportCommand, evaluate
from graphdiff.cli.finetune import finetune
from graphdiff.cli.fit import app as fit_app
from graphdiff.cli.nag import app as nag_app
from graphdiff.cli.predict import predict
from graphdiff.cli.sample import sample
from graphdiff.cli.train import train

app = make_app("Diffusion models for graphs and molecules: train, sample, score.")


def _version(show: bool) -> None:
    if show:
        from graphdiff import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Diffusion models for graphs and molecules: train, sample, score."""


app.command()(train)
app.command()(finetune)
app.command()(sample)
app.command(cls=ReportCommand)(evaluate)
app.add_typer(convert_app, name="convert")
app.add_typer(data_app, name="data")
app.add_typer(nag_app, name="nag")
app.add_typer(fit_app, name="fit")
app.command()(predict)
app.command()(bench)
app.command()(card)
app.command()(demo)


def main() -> NoReturn:
    """Entry point of the ``graphdiff`` script."""
    execute(app, "graphdiff")
