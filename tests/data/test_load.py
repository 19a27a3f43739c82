from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data import Dataset, load, names, sources
from graphdiff.data.graphs import Graphs
from graphdiff.data.molecular import load_file
from graphdiff.data.preprocess import molecules

ROOT = Path(__file__).resolve().parents[2]
REGENERATED = {"community_small": (100, 20), "grid": (100, 20), "comm20": (100, 20)}
BENCHMARK = ("planar", "tree", "sbm")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_data(monkeypatch) -> None:
    monkeypatch.delenv("GRAPHDIFF_DATA", raising=False)


def published(name: str) -> Dataset:
    entries = sources.card(name)["published"].values()
    if not all(sources.find([e["file"]]) for e in entries):
        pytest.skip(f"the published files of {name} are not under GRAPHDIFF_DATA")
    return load(name, variant="published")


def test_every_name_has_a_card_with_source_and_licence() -> None:
    for name in names():
        card = sources.card(name)
        assert card["name"] == name
        assert {"title", "licence", "source", "split", "citation", "obtain"} <= card.keys()


@pytest.mark.parametrize("name", sorted(REGENERATED))
def test_regenerated_sets(no_data, name: str) -> None:
    data = load(name)
    total, test = REGENERATED[name]
    assert data.card["variant"] == "regenerated"
    assert len(data.graphs) == total
    assert len(data.splits["test"]) == test
    joined = np.concatenate(list(data.splits.values()))
    assert sorted(joined.tolist()) == list(range(total))
    assert load(name).fingerprint("test") == data.fingerprint("test")
    assert load(name, seed=1).fingerprint("test") != data.fingerprint("test")


@pytest.mark.parametrize("name", BENCHMARK)
def test_regenerated_benchmarks(no_data, name: str) -> None:
    data = load(name)
    assert {s: len(i) for s, i in data.splits.items()} == {"train": 128, "val": 32, "test": 40}


def test_gdss_test_set_is_the_first_fifth(no_data) -> None:
    assert load("grid").splits["test"].tolist() == list(range(20))


@pytest.mark.parametrize("name", ["community_small", "grid", *BENCHMARK, "comm20"])
def test_published_sets(name: str) -> None:
    data = published(name)
    assert len(data.graphs) == data.card["graphs"]
    assert data.graphs.max_nodes == data.card["max_nodes"]


@pytest.mark.parametrize("name", ["ego_small", "enzymes"])
def test_rebuilt_from_raw_is_isomorphic_to_published(name: str) -> None:
    exact = published(name)
    if not all(sources.find([e["file"]]) for e in exact.card["raw"].values()):
        pytest.skip(f"the raw files of {name} are not under GRAPHDIFF_DATA")
    mine = load(name, variant="regenerated").graphs
    assert len(mine) == len(exact.graphs)
    some = np.arange(0, len(mine), 1 if name == "ego_small" else 12)
    pairs = zip(mine[some].to_networkx(), exact.graphs[some].to_networkx(), strict=True)
    assert all(nx.vf2pp_is_isomorphic(a, b) for a, b in pairs)


def test_published_communities_follow_the_recipe() -> None:
    for graph in published("community_small").graphs.to_networkx():
        half = len(graph) // 2
        blocks = nx.disjoint_union_all([nx.gnp_random_graph(half, 0.7, seed=s) for s in (0, 1)])
        bridges = [(u, v) for u, v in graph.edges if (u < half) != (v < half)]
        graph.remove_edges_from(bridges)
        assert bridges
        assert {*map(frozenset, graph.edges)} == {*map(frozenset, blocks.edges)}


def test_missing_files_say_how_to_get_them(no_data, tmp_path) -> None:
    with pytest.raises(DataError, match=r"'moses': found none of .* graphdiff data fetch moses"):
        load("moses", tmp_path)
    with pytest.raises(DataError, match="graphdiff data fetch ego_small"):
        load("ego_small", tmp_path)


def test_unknown_name_and_option() -> None:
    message = "unknown data set 'qm10': it is no file or folder, and none of qm9, zinc250k"
    with pytest.raises(ArgumentError, match=message):
        load("qm10")
    with pytest.raises(ArgumentError, match="grid has no option 'split': it takes variant, seed"):
        load("grid", split="test")
    with pytest.raises(ArgumentError, match="variant must be"):
        load("grid", variant="newest")


def test_wrong_graphs_are_refused(tmp_path) -> None:
    Graphs.from_lists([2], [[(0, 1)]]).save(tmp_path / "graphs_npz" / "gdss_grid.npz")
    with pytest.raises(DataError, match=r"gdss_grid\.npz has a wrong checksum"):
        load("grid", tmp_path)


def test_wrong_and_truncated_molecule_files(tmp_path) -> None:
    path = tmp_path / "zinc250k" / "zinc250k.smi.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(b"CC\nCCO\n"))
    with pytest.raises(DataError, match=r"zinc250k\.smi\.gz has a wrong checksum: sha256"):
        load("zinc250k", tmp_path)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"zinc250k\.smi\.gz is truncated or damaged"):
        load("zinc250k", tmp_path)


def test_search_order(tmp_path, monkeypatch) -> None:
    for folder in ("root", "env", "cache/data"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.txt").write_text(folder)
    monkeypatch.setenv("GRAPHDIFF_DATA", f"{tmp_path / 'none'}{os.pathsep}{tmp_path / 'env'}")
    assert sources.find(["a.txt"], tmp_path / "root") == tmp_path / "root" / "a.txt"
    assert sources.find(["a.txt"]) == tmp_path / "env" / "a.txt"
    monkeypatch.delenv("GRAPHDIFF_DATA")
    assert sources.find(["a.txt"]) == tmp_path / "cache" / "data" / "a.txt"


# -- preprocessing ---------------------------------------------------------------------------


def test_failures_are_kept_and_cached(own_cache) -> None:
    smiles = ["CCO", "C(", "c1ccccc1", "C[Si]", "F(F)F"]
    calls = []
    graphs, text, kept, failures = molecules(
        "t", smiles, ("C", "O"), progress=lambda d, n: calls.append((d, n))
    )
    assert kept.tolist() == [0, 2]
    assert list(text) == ["CCO", "c1ccccc1"]
    assert graphs.edge_type is not None
    assert graphs.edge_type[:2].tolist() == [1, 1]
    assert sorted(graphs.edge_type[2:].tolist()) == [1, 1, 1, 2, 2, 2]  # benzene, kekulised
    assert [i for i, _ in failures] == [1, 3, 4]
    assert "Si" in failures[1][1]
    assert calls[-1] == (5, 5)
    again = molecules("t", smiles, ("C", "O"), progress=lambda d, n: calls.append("again"))
    assert again[0] == graphs
    assert again[3] == failures
    assert "again" not in calls
    assert len(list((own_cache / "preprocessed").glob("t-*.npz"))) == 1


def test_parallel_equals_serial(tmp_path, monkeypatch) -> None:
    smiles = ["CCO", "N#N", "C1CC1", "bad(", "O=C=O", "F"] * 3
    one = molecules("a", smiles, ("C", "N", "O", "F"), workers=1)
    seen = []
    two = molecules(
        "b", smiles, ("C", "N", "O", "F"), workers=2, progress=lambda d, n: seen.append(d)
    )
    assert one[0] == two[0]
    assert list(one[1]) == list(two[1])
    assert one[2].tolist() == two[2].tolist()
    assert one[3] == two[3]
    assert max(seen) == len(smiles)


def test_damaged_cache_is_made_again(own_cache) -> None:
    first = molecules("t", ["CC", "CCC"], ("C",))[0].sha256()
    path = next((own_cache / "preprocessed").glob("t-*.npz"))
    start = path.read_bytes()[:50]
    path.unlink()  # the file may still be mapped
    path.write_bytes(start)
    assert molecules("t", ["CC", "CCC"], ("C",))[0].sha256() == first


def test_unwritable_cache_falls_back(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "file"))
    assert len(molecules("t", ["CC"], ("C",))[0]) == 1


def test_smiles_file_names_line_and_text(tmp_path) -> None:
    path = tmp_path / "mine.smi"
    path.write_text("CCO ethanol\n\nC1CC\nCC\n")
    with pytest.raises(DataError, match=r"mine\.smi, line 3: SMILES 'C1CC' does not parse"):
        load_file(path, ("C", "O"))
    data = load_file(path, ("C", "O"), strict=False, test=0.5)
    assert data.split_smiles("test") == ["CCO"]
    assert data.split_smiles("train") == ["CC"]
    assert data.card["failures"][0][0] == 3
    path.write_text("\n")
    with pytest.raises(DataError, match="holds no SMILES"):
        load_file(path, ("C",))


# -- QM9 ---------------------------------------------------------------------------------------


def test_qm9_file_and_split() -> None:
    card = sources.card("qm9")
    path = ROOT / "datasets" / "qm9" / "qm9.smi.xz"
    if not path.exists():
        pytest.skip("datasets/qm9/qm9.smi.xz is in source checkouts only")
    assert path.stat().st_size < 2_000_000
    data = sources.read_bytes(path)
    assert hashlib.sha256(data).hexdigest() == card["sha256"]
    lines = data.decode().split("\n")
    ids = sources.test_ids("qm9")
    assert len(lines) == 133_885 + 1
    assert sum(map(bool, lines)) == card["molecules"]
    assert len(set(ids)) == card["test"] == 13_082
    assert all(lines[i - 1] for i in ids)


def test_qm9_slice_reads_back(tmp_path) -> None:
    from graphdiff.graph.molecules import QM9_ATOMS, parse_smiles, to_molecules, to_smiles

    path = ROOT / "datasets" / "qm9" / "qm9.smi.xz"
    if not path.exists():
        pytest.skip("datasets/qm9/qm9.smi.xz is in source checkouts only")
    smiles = [s for s in sources.read_bytes(path).decode().split("\n") if s][::500]
    graphs, text, kept, failures = molecules("qm9-slice", smiles, QM9_ATOMS)
    assert not failures
    assert graphs.max_nodes == 9
    from rdkit import Chem

    same = charged = 0
    for mol, line in zip(to_molecules(graphs, QM9_ATOMS), text, strict=True):
        wanted = parse_smiles(line)
        if any(a.GetFormalCharge() or a.GetNumRadicalElectrons() for a in wanted.GetAtoms()):
            charged += 1
            continue
        Chem.RemoveStereochemistry(wanted)
        same += to_smiles(mol) == Chem.MolToSmiles(wanted)
    assert same == len(kept) - charged
    assert charged < 0.05 * len(kept)


@pytest.mark.slow
def test_qm9_whole() -> None:
    data = load("qm9")
    assert data.card["failures"] == []
    assert {s: len(i) for s, i in data.splits.items()} == {"train": 117_749, "test": 13_082}
    assert data.card["test_ids_found"] == data.card["test_ids_listed"]
    full = sources.find(["qm9/qm9_smiles_133885.csv"])
    if full is not None:
        whole = load("qm9", variant="full")
        assert len(whole.graphs) == 133_885
        assert whole.fingerprint("test") == data.fingerprint("test")
