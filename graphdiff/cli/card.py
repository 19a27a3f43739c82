"""``graphdiff card``: what is known about a model."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from graphdiff.cli.common import Json, emit, table

__all__ = ["card"]


def card(
    model: Annotated[
        str | None, typer.Argument(help="Model name or folder; lists the shipped ones if absent.")
    ] = None,
    bibtex: Annotated[bool, typer.Option("--bibtex", help="Print only what to cite.")] = False,
    as_json: Json = False,
) -> None:
    """Show the card of a model: data, training, metrics, licence and citation."""
    from dataclasses import asdict

    from graphdiff.model import find, models
    from graphdiff.train.checkpoint import read_card

    if model is None:
        cards = {name: read_card(path) for name, path in sorted(models().items())}
        if as_json:
            emit({name: asdict(value) for name, value in cards.items()})
        else:
            rows = [
                (n, c.kind, (c.data or {}).get("name", ""), c.licence) for n, c in cards.items()
            ]
            table(rows, ("model", "kind", "trained on", "licence"))
        return
    found = read_card(find(model))
    if bibtex:
        from graphdiff.model import citation, load
        from graphdiff.task import PREDICTORS

        # A model that only predicts is no task; its card says itself what to cite.
        known = found.kind in PREDICTORS
        print("\n\n".join((citation(), found.citation)) if known else load(model).citation())
    elif as_json:
        emit(asdict(found))
    else:
        table([*_rows("", asdict(found))], ("field", "value"), model)


def _rows(prefix: str, value: Any) -> list[tuple[str, str]]:
    """A nested mapping as dotted rows; empty fields are left out."""
    if isinstance(value, dict):
        return [row for k, v in value.items() for row in _rows(f"{prefix}.{k}".lstrip("."), v)]
    if isinstance(value, (list, tuple)) and len(value) > 8:
        value = f"{len(value)} values"
    text = " ".join(str(value).split())
    return [(prefix, text)] if text and value is not None else []
