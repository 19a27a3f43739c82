"""Whether the first line of a table is a header or a node: what the line says, then other files.

Some first lines leave no doubt (``id,label``; only names beside an id). A line whose id other files
know is a node. What is left (``gene,0,1,2``, ``paper,field``) is a header if its id is in no other
file while most ids below it are, and ``notes`` says so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence, Set
from typing import Any

from graphdiff.data.node_csv import Table, is_number
from graphdiff.data.node_labels import ABSENT

__all__ = ["edge_header", "feature_header", "firm_ends", "label_header", "split_header"]

ID_WORDS = frozenset({"id", "ids", "node", "node_id", "nodeid", "name", "index"})
END_WORDS = frozenset({
    "source", "target", "src", "dst", "from", "to", "u", "v", "head", "tail", "node1", "node2",
    "node_1", "node_2", "id1", "id2", "id_1", "id_2", "source_id", "target_id", "sourceid",
    "targetid",
})  # fmt: skip
LABEL_WORDS = frozenset({"label", "labels", "class", "classes", "y", "target", "category"})


def edge_header(table: Table, others: Set[str], notes: dict[str, Any]) -> bool:
    """Whether an edge list has a header.

    Args:
        table: The edge list.
        others: Ids that its lines may be compared with, if any.
        notes: Where a decision in doubt is written down.
    """
    first, below = table.rows[0][1][:2], table.rows[1:]
    later = {cell for _, cells in below for cell in cells[:2]}
    if {cell.lower() for cell in first} <= END_WORDS and not later & set(first):
        return True
    if _texts(first) and later and all(is_number(cell) for cell in later):
        return True
    return _strange(table, first, later, others, notes)


def feature_header(table: Table, others: Set[str], notes: dict[str, Any]) -> bool:
    """Whether a table of features has a header; arguments as :func:`edge_header`."""
    name, *rest = table.rows[0][1]
    below = {cells[0] for _, cells in table.rows[1:]}
    named = [cell for cell in rest if cell not in ABSENT]
    word = name.lower() in ID_WORDS
    if word and named and _texts(rest):
        return True
    if name in others and name not in below:
        return False
    if word or (named and _texts(rest)):
        return True
    if not _counted(rest):
        return False
    return not name or _strange(table, [name], below, others, notes)


def label_header(table: Table, others: Set[str], notes: dict[str, Any]) -> bool:
    """Whether a table of labels has a header; arguments as :func:`edge_header`.

    A header does not name a class that occurs below it: ``a,y`` above ``b,n`` and ``c,y`` is a
    node with the label y. A number above numbers is a label.
    """
    name, label, *_ = *table.rows[0][1], ""
    below = {cells[0] for _, cells in table.rows[1:]}
    labels = {cells[1] for _, cells in table.rows[1:] if len(cells) > 1}
    alike = is_number(label) and any(map(is_number, labels))
    fresh = not alike and label not in ABSENT | labels
    word, titled = name.lower() in ID_WORDS, fresh and label.lower() in LABEL_WORDS
    if word and titled:
        return True
    if name in others and name not in below:
        return False
    if word or titled:
        return True
    if not name:  # as pandas writes a series, with or without a name
        return fresh or label == "0"
    return fresh and _strange(table, [name], below, others, notes)


def split_header(table: Table, ids: Collection[str], parts: Set[str]) -> bool:
    """Whether a table of splits has a header: no part, and no node of the graph."""
    name, *rest = table.rows[0][1]
    known = name in ids and name.lower() not in ID_WORDS
    return not known and not any(cell.lower() in parts for cell in rest)


def firm_ends(edges: Sequence[tuple[int, str, str]], listed: Set[str]) -> Set[str]:
    """Ends of edges, but not those of a first line that may be a header, as far as one can see.

    Args:
        edges: Number of the line and ids of each edge.
        listed: Ids that other files list below their first line.
    """
    later = {end for _, *ends in edges[1:] for end in ends}
    first = {end for _, *ends in edges[:1] for end in ends}
    return later | first if first & (later | listed) else later


def _strange(
    table: Table, first: Sequence[str], below: Set[str], others: Set[str], notes: dict[str, Any]
) -> bool:
    """Whether a first line names what is nowhere else, while other files know most ids below."""
    known = below & others
    if {*first} & (below | others) or 2 * len(known) <= len(below):
        return False
    if all(map(is_number, first)) and any(map(is_number, below)):  # a number among numbers is an id
        return False
    line, cells = table.rows[0]
    shown = ",".join(cells[:4]) + (",…" if len(cells) > 4 else "")
    notes[f"{table.path.name.partition('.')[0]}_header"] = (
        f"{table.path.name}, line {line} ({shown}) was taken for a header, since {first[0]!r} is "
        "in no other file; if it is a node, write a header above it"
    )
    return True


def _texts(cells: Iterable[str]) -> bool:
    """Whether none is a number, as in a header."""
    return not any(map(is_number, cells))


def _counted(cells: Sequence[str]) -> bool:
    """Whether these are whole numbers in a row, as pandas names columns without names."""
    if not cells or not all(re.fullmatch(r"\d+", cell) for cell in cells):
        return False
    start = int(cells[0])
    row = [int(cell) for cell in cells] == list(range(start, start + len(cells)))
    return row and (len(cells) > 1 or start == 0)
