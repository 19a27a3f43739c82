"""Sample files of other projects: every format gives the same graphs; damage is named."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from graphdiff.core.errors import DataError
from graphdiff.data.graphs import Graphs
from graphdiff.graph.aromatic import has_aromatic, to_smiles_list
from graphdiff.graph.molecules import QM9_ATOMS
from graphdiff.graph.read_samples import read_samples

DATA = os.environ.get("GRAPHDIFF_DATA")


@pytest.fixture
def sample() -> list[nx.Graph]:
    """Twelve connected graphs, so that numbering beyond nine is tried."""
    return [nx.connected_watts_strogatz_graph(5 + i % 4, 2, 0.5, seed=i) for i in range(12)]


def matrices(sample: list[nx.Graph]) -> list[np.ndarray]:
    return [nx.to_numpy_array(g).astype(np.int64) for g in sample]


def pack(sample: list[nx.Graph]) -> Graphs:
    return Graphs.from_lists([len(g) for g in sample], [list(g.edges) for g in sample])


def degrees(graphs: Graphs) -> list[list[int]]:
    """What survives a renaming of nodes: the sorted degrees of each graph, in order."""
    return [sorted(d for _, d in g.degree) for g in graphs.to_networkx()]


def padded(sample: list[nx.Graph]) -> tuple[np.ndarray, np.ndarray]:
    sizes = np.asarray([len(g) for g in sample])
    stack = np.zeros((len(sample), sizes.max(), sizes.max()))
    for row, adj in zip(stack, matrices(sample), strict=True):
        row[: len(adj), : len(adj)] = adj
    return stack, sizes


def test_packed_graphs(sample: list[nx.Graph], tmp_path: Path) -> None:
    graphs = pack(sample)
    assert read_samples(graphs.save(tmp_path / "a.npz")) == graphs


@pytest.mark.parametrize("kind", [np.int8, bool, np.float32, np.float64])
def test_matrices_one_by_one_keep_their_order(
    sample: list[nx.Graph], tmp_path: Path, kind: type
) -> None:
    np.savez_compressed(tmp_path / "a.npz", *(a.astype(kind) for a in matrices(sample)))
    assert read_samples(tmp_path / "a.npz") == pack(sample)  # arr_2 before arr_10


def test_stacks(sample: list[nx.Graph], tmp_path: Path) -> None:
    stack, sizes = padded(sample)
    mask = np.arange(stack.shape[1])[None] < sizes[:, None]
    np.savez(tmp_path / "sizes.npz", adj=stack, num_nodes=sizes)
    np.savez(tmp_path / "mask.npz", adj=stack, mask=mask)
    np.save(tmp_path / "plain.npy", stack)
    assert read_samples(tmp_path / "sizes.npz") == pack(sample)
    assert read_samples(tmp_path / "mask.npz") == pack(sample)
    plain = read_samples(tmp_path / "plain.npy")
    assert plain.num_nodes.tolist() == [stack.shape[1]] * 12
    assert plain.num_edges.tolist() == pack(sample).num_edges.tolist()


def test_weights_and_loops_are_edges_and_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.asarray([[1.0, 0.25], [0.25, 0.5]]))
    found = read_samples(tmp_path / "a.npz")
    assert found.edges.tolist() == [[0, 1]]
    assert found.edge_type is None


def test_text_blocks(sample: list[nx.Graph], tmp_path: Path) -> None:
    text = ""
    for adj in matrices(sample):
        lines = "".join(" ".join(map(str, row)) + " \n" for row in adj)
        text += f"N={len(adj)}\nX: \n{' '.join('0' * len(adj))} \nE: \n{lines}\n"
    (tmp_path / "a.txt").write_text(text)
    assert read_samples(tmp_path / "a.txt") == pack(sample)


def test_text_blocks_of_molecules(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(
        "N=3\nX: \n0 2 1 \nE: \n0 1 0 \n1 0 2 \n0 2 0 \n\nN=1\nX: \n3\nE:\n0\n"
    )
    found = read_samples(tmp_path / "a.txt")
    assert found.num_nodes.tolist() == [3, 1]
    assert found.node_type.tolist() == [0, 2, 1, 3]
    assert found.edges.tolist() == [[0, 1], [1, 2]]
    assert found.edge_type.tolist() == [1, 2]


def test_graph_formats(sample: list[nx.Graph], tmp_path: Path) -> None:
    want = degrees(pack(sample))
    for read, suffix in ((nx.to_graph6_bytes, "g6"), (nx.to_sparse6_bytes, "s6")):
        (tmp_path / f"a.{suffix}").write_bytes(b"".join(read(g, header=False) for g in sample))
        assert degrees(read_samples(tmp_path / f"a.{suffix}")) == want
    union = nx.disjoint_union_all(sample)
    owner = [i for i, g in enumerate(sample) for _ in g]
    nx.set_node_attributes(union, dict(enumerate(owner)), "sample")
    nx.write_graphml(union, tmp_path / "union.graphml")
    assert degrees(read_samples(tmp_path / "union.graphml")) == want
    nx.write_graphml(sample[3], tmp_path / "one.graphml")
    assert degrees(read_samples(tmp_path / "one.graphml")) == want[3:4]


def test_folders(sample: list[nx.Graph], tmp_path: Path) -> None:
    want = degrees(pack(sample))
    plain, marked, table = tmp_path / "plain", tmp_path / "marked", tmp_path / "table"
    for folder in (plain, marked, table):
        folder.mkdir()
    for i, graph in enumerate(sample):
        nx.write_edgelist(graph, plain / f"graph_{i}.edges", comments="#")
        nx.write_graphml(graph, marked / f"graph_{i}.graphml")
        rows = "".join(f"v{u},v{v},1.5\n" for u, v in graph.edges)
        (table / f"graph_{i}.csv").write_text("source,target,weight\n" + rows)
    for folder in (plain, marked, table):
        assert degrees(read_samples(folder)) == want
    (plain / "graph_99.edges").write_text("% a comment\n0 1\n1 0\n1 1\n2\n")
    last = read_samples(plain)[12]
    assert last.num_nodes.tolist() == [3]  # one edge given twice, a loop, an isolated node
    assert last.edges.tolist() == [[0, 1]]
    (plain / "x.graphml").write_bytes((marked / "graph_0.graphml").read_bytes())
    with pytest.raises(DataError, match="one kind"):
        read_samples(plain)


def test_aromatic_bonds_become_smiles() -> None:
    ring = [(i, (i + 1) % 6) for i in range(6)]
    bonds = [[4] * 6, [4] * 6, [1, 2], [4, 1]]
    graphs = Graphs.from_lists(
        [6, 6, 3, 3], [ring, ring, [(0, 1), (1, 2)], [(0, 1), (1, 2)]],
        [[0] * 6, [0, 0, 0, 0, 0, 1], [0, 0, 2], [0, 0, 0]], bonds,
    )  # fmt: skip
    assert has_aromatic(graphs)
    assert not has_aromatic(graphs[2])
    # An aromatic bond outside of a ring is no molecule.
    assert to_smiles_list(graphs, QM9_ATOMS) == ["c1ccccc1", "c1ccncc1", "CC=O", ""]
    with pytest.raises(DataError, match="edge classes reach 5"):
        to_smiles_list(Graphs.from_lists([2], [[(0, 1)]], [[0, 0]], [[5]]), QM9_ATOMS)


def test_smiles(tmp_path: Path) -> None:
    (tmp_path / "a.smi").write_text("CCO 1\n\nC1CC1 2\nnonsense 3\n")
    assert read_samples(tmp_path / "a.smi") == ["CCO", "C1CC1", "nonsense"]
    (tmp_path / "a.csv").write_text("SMILES,score\nCC(=O)N,0.5\n")
    assert read_samples(tmp_path / "a.csv") == ["CC(=O)N"]
    (tmp_path / "a.txt").write_text("N\nNCC\n")  # molecules may begin with the letter of a block
    assert read_samples(tmp_path / "a.txt") == ["N", "NCC"]


class Bomb:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_pickles_are_refused_and_never_run(tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    objects = np.asarray([Bomb(trap), Bomb(trap)], dtype=object)
    np.savez(tmp_path / "a.npz", objects)
    np.save(tmp_path / "a.npy", objects)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Bomb(trap)))
    (tmp_path / "renamed.npz").write_bytes(pickle.dumps(Bomb(trap)))
    (tmp_path / "renamed.npy").write_bytes(pickle.dumps(Bomb(trap)))
    for name, message in (
        ("a.npz", "Python objects"), ("a.npy", "Python objects"), ("a.pkl", "Python pickle"),
        ("renamed.npz", "renamed.npz"), ("renamed.npy", "renamed.npy"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            read_samples(tmp_path / name)
    assert not trap.exists()
    pickle.loads((tmp_path / "a.pkl").read_bytes())
    assert trap.exists()  # the trap works


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "N=2\nX:\n0 0\nE:\n0 1\n1\n", "graph 0: 2 nodes, but 2 classes and 3"),
        ("a.txt", "N=2\nX:\n0 0\nE:\n0 1\n0 0\n", "graph 0: the matrix is not symmetric"),
        ("a.txt", "N=1\nX:\n0\nE:\n0\nN=1\nX:\n0\nE:\nz\n", "graph 1"),
        ("a.graphml", "<graphml><graph", "no readable GraphML"),
        ("a.g6", "\x01\x02\n", "graph 0"),
        ("a.json", "{}", "unknown kind of file '.json'"),
        ("a.npz", "PK but no archive", "no npz file"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_samples(tmp_path / name)


def test_arrays_that_are_no_graphs(tmp_path: Path) -> None:
    np.savez(tmp_path / "skew.npz", np.asarray([[0, 1], [0, 0]]))
    with pytest.raises(DataError, match="array 'arr_0': graph 0 is not symmetric"):
        read_samples(tmp_path / "skew.npz")
    np.savez(tmp_path / "rows.npz", np.zeros((3, 4)))
    with pytest.raises(DataError, match="no set of adjacency matrices"):
        read_samples(tmp_path / "rows.npz")
    np.savez(tmp_path / "nan.npz", np.full((2, 2), np.nan))
    with pytest.raises(DataError, match="nan"):
        read_samples(tmp_path / "nan.npz")
    with pytest.raises(DataError, match="no such file"):
        read_samples(tmp_path / "nothing.npz")
    with pytest.raises(DataError, match=r"holds no samples\.json"):
        read_samples(tmp_path / "..")


def published(name: str) -> Path:
    found = sorted(Path(str(DATA)).rglob(name))
    if not found:
        pytest.skip(f"{name} is not under GRAPHDIFF_DATA")
    return found[0]


@pytest.mark.skipif(not DATA, reason="GRAPHDIFF_DATA is not set")
def test_published_files() -> None:
    planar = read_samples(published("generated_planar_adj_matrices.npz"))
    assert planar.num_nodes.tolist() == [64] * 40


@pytest.mark.skipif(not DATA, reason="GRAPHDIFF_DATA is not set")
def test_published_text_of_block_models() -> None:
    graphs = read_samples(published("generated_samples_sbm.txt"))
    assert len(graphs) == 40
    assert graphs.node_type is None


@pytest.mark.skipif(not DATA, reason="GRAPHDIFF_DATA is not set")
def test_published_text_of_molecules() -> None:
    graphs = read_samples(published("samples_qm9_no_h.txt"))
    assert len(graphs) == 10_000
    assert has_aromatic(graphs)
    ours = to_smiles_list(graphs, QM9_ATOMS)
    # The table says 99.0 %; four standard errors of the difference of two draws of 10,000.
    assert np.mean([s != "" for s in ours]) == pytest.approx(0.99, abs=0.0056)
