from __future__ import annotations

import gzip
import io
import json
import pickle
import struct

import networkx as nx
import numpy as np
import pytest

from graphdiff.core.errors import DataError
from graphdiff.data.corpus.network import Network
from graphdiff.data.corpus.readers import read

SQUARE = [(0, 1), (0, 3), (1, 2), (2, 3)]
"""A cycle of four nodes, in all the formats below."""


def graph_tool(
    n: int, rows: list[list[int]], *, big: bool = False, comment: bytes = b"hi"
) -> bytes:
    order = ">" if big else "<"
    width = "B" if n < 1 << 8 else "H"
    out = b"\xe2\x9b\xbe gt\x01" + bytes([big]) + struct.pack(f"{order}Q", len(comment)) + comment
    out += b"\x00" + struct.pack(f"{order}Q", n)
    for row in rows:
        out += struct.pack(f"{order}Q", len(row)) + struct.pack(f"{order}{len(row)}{width}", *row)
    return out


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def frame(columns: list[str], rows: list[list], index: list[int] | None = None) -> dict:
    index = list(range(len(rows))) if index is None else index
    return {"_object": json.dumps({"columns": columns, "index": index, "data": rows})}


GRID = json.dumps(
    {
        "_object": {
            "bus": frame(["name"], [["a"], ["b"], ["c"], ["d"]], [10, 7, 8, 9]),
            "line": frame(["to_bus", "from_bus"], [[10, 7], [8, 7], [7, 8]]),
            "trafo": frame(["hv_bus", "lv_bus"], [[8, 9]]),
            "impedance": frame(["from_bus", "to_bus"], [[9, 10]]),
        }
    }
).encode()

GML = b"""Creator "a [tricky] name"
graph [ directed 0
  node [ id 5 label "x ] y" graphics [ id 99 ] ]
  node [ id 6 ] node [ id 7 ] node [ id 9 ]
  edge [ source 5 target 6 value 2.5 ] edge [ source 6 target 7 ]
  edge [ target 9 source 7 ] edge [ source 9 target 5 ] edge [ source 5 target 9 ]
]
"""

FILES = {
    "a.txt": (b"# a comment\n0 1\n1 2 0.5\n\n2 3\n3 0\n0 3\n2 2\n", {}),
    "b.edges": (b"% sym\n10,20\n20,30\n30,40\n40,10\n", {}),
    "header.txt": (b"4 4\r\n0 1\r\n1 2\r\n2 3\r\n3 0\r\n", {}),
    "market.mtx": (b"%%MatrixMarket matrix\n4 4 4\n1 2\n2 3\n3 4\n1 4\n", {}),
    "out.none": (b"a\tb\nb\tc\nc\td\nd\ta\n", {}),
    "m.graph": (b"% metis\n4 4\n2 4\n1 3\n2 4\n1 3\n", {}),
    "w.graph": (b"4 4 11 2\n9 9 2 5 4 5\n9 9 1 5 3 5\n9 9 2 5 4 5\n9 9 1 5 3 5\n", {}),
    "g.gml": (GML, {}),
    "g.gt": (graph_tool(4, [[1, 3], [2], [3], []]), {}),
    "g.gt.gz": (gzip.compress(graph_tool(4, [[1], [2], [3], [0]], big=True)), {}),
    "e.npz": (npz(edges=np.asarray(SQUARE)), {}),
    "k.npz": (npz(other=np.asarray(SQUARE)), {"key": "other"}),
    "adj.txt": (b"2 4\n1 3\n2 4\n1 3\n", {"reader": "neighbours"}),
    "adj.csv": (b"0 1 0 0\n0 0 1 0\n0 0 0 2\n.5 0 0 0\n", {"reader": "matrix"}),
    "tri.npz": (
        npz(w=np.asarray([[0] * 6, [9, 1, 8, 7, 2, 6]])),
        {"reader": "triangle", "key": "w", "row": 1, "keep": 4 / 6},
    ),
    "w.edgelist": (
        b"0 0 99\n0 1 9.0\n0 2 1\n0 3 8\n1 2 7\n1 3 2\n2 3 6\n",
        {"reader": "weighted", "nodes": 4, "keep": 4 / 6},
    ),
    "x.graph": (pickle.dumps({0: [1, 3], 1: [0, 2], 2: [1, 3, 2], 3: []}), {"reader": "planetoid"}),
    "grid.json": (GRID, {"reader": "pandapower"}),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_reads_the_square(name: str) -> None:
    data, options = FILES[name]
    (network,) = read(data, name, options)
    assert network.num_nodes == 4
    if name == "grid.json":  # buses are numbered by their place in the table
        assert network.edges.tolist() == [[0, 1], [0, 3], [1, 2], [2, 3]]
    assert network.edges.tolist() == [list(e) for e in SQUARE]


def test_lists_of_graphs() -> None:
    text = b"2\n3 7\n0 1 1\n0 2 0 2\n0 1 1\n2 0\n5 1 1\n5 1 0\n"
    path, edge = read(text, "t.txt", {"reader": "tu"})
    assert (path.num_nodes, path.edges.tolist()) == (3, [[0, 1], [1, 2]])
    assert (edge.num_nodes, edge.edges.tolist()) == (2, [[0, 1]])
    packed = npz(num_nodes=[3, 2], edge_ptr=[0, 2, 3], edges=[[0, 1], [1, 2], [0, 1]])
    assert [n.sha256() for n in read(packed, "p.npz")] == [path.sha256(), edge.sha256()]


def test_wide_graph_tool_files() -> None:
    ring = nx.cycle_graph(300)
    rows = [[v for u, v in ring.edges if u == k] for k in range(300)]
    (network,) = read(graph_tool(300, rows), "ring.gt")
    assert {tuple(e) for e in network.edges.tolist()} == set(ring.edges)


def test_names_and_first_edge_are_no_header() -> None:
    (network,) = read(b"3 2\n2 1\n1 4\n", "no-header.txt")  # node 4 does not fit three nodes
    assert len(network.edges) == 3
    (network,) = read(b"4 3\n1 2\n", "no-header.txt")  # one line follows, not three
    assert network.num_nodes == 4


class _Evil:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize(
    ("name", "data", "options", "message"),
    [
        ("a.txt", b"0 1\n2\n", {}, "one column only"),
        ("a.txt", b"# nothing\n", {}, "no edge"),
        ("a.graph", b"4 4\n2 4\n1 3\n", {}, "cut short"),
        ("a.graph", b"4 5\n2 4\n1 3\n2 4\n1 3\n", {}, "4 edges, its first line says 5"),
        ("a.graph", b"4 4\n2 9\n1 3\n2 4\n1 3\n", {}, "edge to node 8"),
        ("a.gt", graph_tool(4, [[1, 3], [2], [3], []])[:-3], {}, "damaged or of another format"),
        ("a.gt.gz", gzip.compress(b"abc", mtime=0)[:-4], {}, "damaged or of another format"),
        ("a.gml", b"graph [ node [ id 1 ] edge [ source 1 target 2 ] ]", {}, "not listed"),
        ("a.npz", b"no zip", {}, "damaged or of another format"),
        ("a.npz", npz(edges=np.asarray([object()])), {}, "damaged or of another format"),
        ("a", pickle.dumps([_Evil()]), {"reader": "planetoid"}, r"print is not allowed"),
    ],
)
def test_damaged_files_are_named(capsys, name, data, options, message) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(data, name, options)
    assert name in str(caught.value)
    assert capsys.readouterr().out == ""


def test_network_arrays_agree_with_networkx() -> None:
    graph = nx.gnm_random_graph(40, 90, seed=1)
    both = [*graph.edges, *((v, u) for u, v in graph.edges), (3, 3)]
    network = Network.of(both, 40)
    assert len(network.edges) == 90
    for v in graph:
        row = network.neighbours[network.pointer[v] : network.pointer[v + 1]]
        assert row.tolist() == sorted(graph[v])
    part = network.induced(range(0, 40, 2))
    expected = nx.convert_node_labels_to_integers(
        graph.subgraph(range(0, 40, 2)), ordering="sorted"
    )
    assert {tuple(e) for e in part.edges.tolist()} == {tuple(sorted(e)) for e in expected.edges}
