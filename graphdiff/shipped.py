"""What is installed: the models of every package that ships some, and how to cite graphdiff."""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from graphdiff import __version__
from graphdiff.core.errors import CheckpointError

__all__ = ["citation", "find", "models"]

GROUP = "graphdiff.models"
_BIBTEX = """@software{graphdiff,
  title  = {graphdiff: diffusion models for graphs, molecules, sequences and images},
  author = {{The graphdiff developers}},
  year   = {2026},
  note   = {Version VERSION}
}"""


def citation() -> str:
    """BibTeX of graphdiff itself; :meth:`Model.citation` adds what a model is built on."""
    return _BIBTEX.replace("VERSION", __version__)


def models() -> dict[str, Path]:
    """Folders of the shipped models by name, of every installed package that ships some."""
    found: dict[str, Path] = {}
    for point in entry_points(group=GROUP):
        spec = find_spec(point.value)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            for card in sorted(Path(place).glob("models/*/card.json")):
                found.setdefault(card.parent.name, card.parent)
    return found


def find(name_or_path: str | Path) -> Path:
    """The folder of a model: a path to one, or a shipped name."""
    from graphdiff.train.checkpoint import find_model

    path = Path(name_or_path).expanduser()
    shipped = models()
    name = str(name_or_path)
    if name in shipped and not (path / "card.json").is_file():
        return shipped[name]
    if path.exists():
        return find_model(path)
    raise CheckpointError(
        f"no model is called {name!r} and no such folder exists; shipped models: "
        f"{', '.join(sorted(shipped)) or 'none'}; give one of these names, or the folder that "
        "`graphdiff train` or `graphdiff convert` wrote"
    )
