"""Names of data sets and the loaders behind them; loaders are imported when first used.

A data set holds graphs (:class:`graphdiff.data.Dataset`) or sequences
(:class:`graphdiff.sequence.dataset.SequenceDataset`). Measured tables of neural architectures have
cards and are fetched in the same way, but are read by :mod:`graphdiff.graph.nag.tables`; so are the
graphs of graph learning, each read by the function that :func:`reader` names.
"""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphdiff.core.errors import ArgumentError

if TYPE_CHECKING:
    from graphdiff.sequence.dataset import SequenceDataset

__all__ = [
    "architecture_names",
    "learning_names",
    "load",
    "load_sequences",
    "names",
    "reader",
    "sequence_names",
]

_GENERIC = "graphdiff.data.generic:load_generic"
_OWN = "graphdiff.data.own:load_own"
_OWN_SEQUENCES = "graphdiff.sequence.own:load_own_sequences"
_LOADERS = {
    "qm9": "graphdiff.data.qm9:load_qm9",
    "zinc250k": "graphdiff.data.molecular:load_zinc250k",
    "moses": "graphdiff.data.molecular:load_moses",
    "community_small": _GENERIC,
    "ego_small": _GENERIC,
    "enzymes": _GENERIC,
    "grid": _GENERIC,
    "planar": _GENERIC,
    "tree": _GENERIC,
    "sbm": _GENERIC,
    "comm20": _GENERIC,
    "lggm": "graphdiff.data.corpus.loader:load_lggm",
}
_SEQUENCES = {
    "yeast-promoter": "graphdiff.sequence.datasets:load_yeast_promoter",
    "tfbind8": "graphdiff.sequence.datasets:load_tfbind8",
    "aav": "graphdiff.sequence.datasets:load_aav",
}
_ALL = {**_LOADERS, **_SEQUENCES}
_ARCHITECTURES = ("nasbench201", "nasbench201-meta", "nasbench-macro", "ofa-mobilenetv3")


# What reads the graphs on which methods learn: one graph with labels, relations, events.
_READERS = {
    "node-sets": "graphdiff.data.node_sets.load_nodes(NAME)",
    "poisoned-graphs": "graphdiff.data.poisoned.load_poisoned(NAME, RATE)",
    "diffgraph-retail-rocket": 'graphdiff.data.behaviours.load_behaviours("retail-rocket")',
    "diffgraph-tmall": 'graphdiff.data.behaviours.load_behaviours("tmall")',
    "heco-dblp": 'graphdiff.data.heco.load_heco("dblp")',
    "heco-aminer": 'graphdiff.data.heco.load_heco("aminer")',
    "heco-acm": 'graphdiff.data.heco.load_heco("acm")',
    "bitcoin-otc": 'graphdiff.data.signed_files.load_signed("bitcoin-otc")',
    "bitcoin-alpha": 'graphdiff.data.signed_files.load_signed("bitcoin-alpha")',
    "amazon_photo": 'graphdiff.data.local_graphs.load_local_graph("amazon_photo")',
    "coauthor_cs": 'graphdiff.data.local_graphs.load_local_graph("coauthor_cs")',
    "coauthor_phy": 'graphdiff.data.local_graphs.load_local_graph("coauthor_phy")',
    "graph8c": "graphdiff.data.expressivity.graph8c()",
    "sr25": "graphdiff.data.expressivity.sr25()",
}


def reader(name: str) -> str:
    """The call that reads a set of :func:`learning_names`."""
    return _READERS[name]


def learning_names() -> tuple[str, ...]:
    """Graphs on which methods learn; they are no sets of graphs, and :func:`load` refuses them."""
    return tuple(_READERS)


def names() -> tuple[str, ...]:
    """All names that :func:`load` knows."""
    return tuple(_ALL)


def sequence_names() -> tuple[str, ...]:
    """Those of :func:`names` that hold sequences."""
    return tuple(_SEQUENCES)


def architecture_names() -> tuple[str, ...]:
    """Measured tables of neural architectures, see :mod:`graphdiff.graph.nag.tables`."""
    return _ARCHITECTURES


def _loader(name: str) -> str:
    """Where the loader of a name or path is."""
    if name in _ALL:
        return _ALL[name]
    from graphdiff.sequence.fasta import fasta_files

    return _OWN_SEQUENCES if fasta_files(Path(name).expanduser()) else _OWN


def load(name: str, root: str | Path | None = None, **options: Any) -> Any:
    """Loads a data set by name.

    Files are searched in ``root``, else in ``$GRAPHDIFF_DATA``, the checkout's ``datasets/`` and
    the user cache. Nothing is downloaded; ``graphdiff data fetch NAME`` does that.

    Args:
        name: One of :func:`names`, or the path of your own file or folder, see
            :mod:`graphdiff.data.own` and, for FASTA, :mod:`graphdiff.sequence.own`.
        root: Folder to look into instead of the search path.
        **options: Options of the loader, see its docstring.

    Returns:
        The graphs (:class:`~graphdiff.data.Dataset`) or sequences
        (:class:`~graphdiff.sequence.dataset.SequenceDataset`), their splits, and the data card.

    Raises:
        ArgumentError: If the name is unknown, or is that of a table of architectures or of a graph
            to learn on.
        DataError: If files are missing, damaged, or have a wrong checksum.
    """
    if name in _ARCHITECTURES:
        call = "load_meta()" if name.endswith("meta") else f"load_table({name!r})"
        raise ArgumentError(
            f"{name!r} is a table of neural architectures, not a data set to train on: read it by "
            f"graphdiff.graph.nag.tables.{call}"
        )
    if name in _READERS:
        raise ArgumentError(
            f"{name!r} is a graph to learn on, not a set of graphs: read it by {reader(name)}"
        )
    if name not in _ALL and not Path(name).expanduser().exists():
        raise ArgumentError(
            f"unknown data set {name!r}: it is no file or folder, and none of {', '.join(_ALL)}"
        )
    module, function = _loader(name).split(":")
    loader = getattr(import_module(module), function)
    known = [p for p in signature(loader).parameters if p not in ("name", "root")]
    for option in options:
        if option not in known:
            raise ArgumentError(f"{name} has no option {option!r}: it takes {', '.join(known)}")
    return loader(name, root, **options)


def load_sequences(name: str, root: str | Path | None = None, **options: Any) -> SequenceDataset:
    """As :func:`load`, for what must hold sequences.

    Raises:
        ArgumentError: If the name is unknown or the set holds graphs.
    """
    from graphdiff.sequence.dataset import SequenceDataset

    if name in _LOADERS:
        raise ArgumentError(
            f"data set {name!r} holds graphs, not sequences: choose {', '.join(_SEQUENCES)}, or "
            "the path of a FASTA file"
        )
    found = load(name, root, **options)
    if not isinstance(found, SequenceDataset):
        raise ArgumentError(f"{name} holds graphs or molecules, not sequences: give a FASTA file")
    return found
