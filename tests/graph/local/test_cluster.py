"""Clusters of seeds: options, choices, pictures, data sets and the benchmark."""

from __future__ import annotations

import io

import networkx as nx
import numpy as np
import pytest
from suites import load_suite

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data import sources
from graphdiff.data.local_graphs import LOCAL_GRAPHS, load_local_graph, parse_local_graph
from graphdiff.graph.local import (
    RoomError,
    conductance,
    f1_score,
    local_cluster,
    local_graph,
    noisy_labels,
    planted_cluster,
    sweep,
)
from graphdiff.graph.local.draw import cluster_png


@pytest.fixture(scope="module")
def planted():
    rng = np.random.default_rng(0)
    return planted_cluster(2000, 80, inside=14, leaving=2, outside=8, rng=rng)


@pytest.mark.parametrize("method", ["flow", "pagerank", "heat"])
def test_a_planted_cluster_is_found(planted, method) -> None:
    found = local_cluster(planted, 5, method, volume=80 * 16.0)
    assert found.f1(range(80)) > 0.9
    assert found.conductance == pytest.approx(conductance(planted, found.rows))
    assert len(found) == len(found.nodes) == len(found.score)
    assert (np.diff(found.score) <= 0).all()
    assert found.method == method
    free = local_cluster(planted, 5, method)
    assert free.f1(range(80)) > 0.9


def test_labels_and_attributes_help_where_the_graph_does_not() -> None:
    rng = np.random.default_rng(1)
    graph = planted_cluster(3000, 100, inside=12, leaving=8, outside=10, rng=rng)
    truth = np.arange(3000) < 100
    labels = noisy_labels(truth, 0.9, 0.9, rng)
    features = rng.normal(size=(3000, 4)) + 3.0 * truth[:, None]
    plain = local_cluster(graph, 0, volume=2000.0).f1(range(100))
    labelled = local_cluster(graph, 0, volume=2000.0, labels=labels, known={0: 1})
    attributed = local_cluster(graph, 0, volume=2000.0, attributes=features)
    alone = f1_score(np.flatnonzero(labels), range(100))
    assert labelled.f1(range(100)) > max(plain, alone) + 0.1
    assert attributed.f1(range(100)) > plain + 0.1
    assert labelled.conductance == pytest.approx(conductance(graph, labelled.rows))


def test_the_best_of_the_scales_is_returned(planted) -> None:
    scales = (1.2, 2.0, 4.0)
    each = [local_cluster(planted, 3, volume=900.0, scales=[s]) for s in scales]
    best = local_cluster(planted, 3, volume=900.0, scales=scales)
    assert best.conductance == min(c.conductance for c in each)
    assert best.reach in [s * 900 for s in scales]
    assert best.work.edges == sum(c.work.edges for c in each)
    rows, values, _ = sweep(best.diffusion)
    assert rows.tolist() == best.rows.tolist()
    assert values.min() == pytest.approx(best.conductance)


def test_support_is_all_that_is_full(planted) -> None:
    found = local_cluster(planted, 3, volume=500.0, scales=[2.0], output="support")
    assert set(found.rows) == set(found.diffusion.support)


def test_names_and_several_seeds() -> None:
    graph = nx.relabel_nodes(nx.barbell_graph(8, 0), lambda k: f"node {k}")
    found = local_cluster(graph, ["node 0", "node 3"], volume=57.0, scales=[1.3])
    assert set(found.nodes) == {f"node {k}" for k in range(8)}
    assert found.seeds.tolist() == [0, 3]
    assert found.f1({f"node {k}" for k in range(8)}) == 1
    cliques = nx.disjoint_union(nx.complete_graph(6), nx.complete_graph(50))
    assert set(local_cluster(cliques, 0, "pagerank").nodes) == set(range(6))


def test_masses_that_do_not_fit_are_left_out_and_said() -> None:
    graph = nx.disjoint_union(nx.barbell_graph(8, 0), nx.complete_graph(30))
    found = local_cluster(graph, 0, volume=57.0, scales=(1.3, 4.0, 500.0))
    assert set(found.nodes) == set(range(8))
    assert sum("does not fit" in note for note in found.notes) == 2
    with pytest.raises(RoomError, match="connected to the seeds"):
        local_cluster(graph, 0, volume=500.0)


def test_masses_that_stay_on_the_seeds_are_left_out_and_said(planted) -> None:
    degree = float(planted.degree[3])
    for output in ("sweep", "support"):
        found = local_cluster(planted, 3, volume=degree, scales=(0.5, 1.0, 60.0), output=output)
        assert found.reach == 60 * degree
        assert sum("does not leave the seeds" in note for note in found.notes) == 2
        with pytest.raises(ArgumentError, match=r"leaves the seeds.*larger volume"):
            local_cluster(planted, 3, volume=degree, scales=(0.5, 1.0), output=output)
    with pytest.raises(ArgumentError, match=r"leaves the seeds.*larger volume"):
        local_cluster(planted, 3, "pagerank", volume=degree / 100)
    # The centre of a star keeps up to half of the volume, and all is too much.
    with pytest.raises(ArgumentError, match=r"that fits, up to 6,.*sum to 6"):
        local_cluster(nx.star_graph(6), 0, volume=6.0, scales=(1.0, 2.0))
    with pytest.raises(ArgumentError, match="isolated"):
        local_cluster(local_graph([(0, 1)], nodes=3), 2, "pagerank")


@pytest.mark.parametrize("method", ["flow", "pagerank", "heat"])
def test_volumes_of_ones_own_fit(planted, method) -> None:
    """Half of the graph and ``reach`` are the most, also where four times the seed is more."""
    for graph, reach in ((nx.path_graph(4), 4.5), (nx.complete_graph(5), 15)):
        found = local_cluster(graph, 0, method)
        assert found.reach == reach
        assert 0 < len(found) < len(graph)
        assert found.notes == ()
    for reach in (40.0, 500.0, 1e9):
        found = local_cluster(planted, 5, method, reach=reach)
        least = min(6 * planted.degree[5], reach)
        assert least * (1 - 1e-12) <= found.reach <= min(reach, planted.volume / 2) * (1 + 1e-12)
    wide = local_cluster(nx.path_graph(30), 0, method, scales=(1.0, 6.0), reach=12)
    assert wide.reach in (2, 12)
    assert wide.notes == ()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"method": "magic"}, "method is one of"), ({"output": "all"}, "output is one of"),
        ({"measure": "x"}, "measure is one of"), ({"volume": 0}, "volume"),
        ({"scales": []}, "scales"), ({"scales": [-1]}, "scales"), ({"reach": 0}, "reach"),
        ({"output": "support", "method": "heat"}, "is for flow"),
        ({"labels": [0], "attributes": [0]}, "not both"), ({"seed": 10**6}, "no node"),
    ],
)  # fmt: skip
def test_bad_options(planted, more, words) -> None:
    with pytest.raises(ArgumentError, match=words):
        local_cluster(planted, **{"seed": 0, **more})


def test_f1() -> None:
    assert f1_score([1, 2, 3], [2, 3, 4, 5]) == pytest.approx(4 / 7)
    assert f1_score([], [1]) == f1_score([], []) == 0


def test_planted_degrees() -> None:
    graph = planted_cluster(
        5000, 500, inside=20, leaving=6, outside=9, rng=np.random.default_rng(0)
    )
    counts, ends, _ = graph.rows(np.arange(500))
    assert (ends < 500).sum() / 500 == pytest.approx(20, abs=0.6)
    assert (ends >= 500).sum() / 500 == pytest.approx(6, abs=0.4)
    assert counts.sum() == len(ends)
    _, outer, _ = graph.rows(np.arange(500, 5000))
    assert (outer >= 500).sum() / 4500 == pytest.approx(9, abs=0.3)
    assert graph.notes == ()
    for k, inside in ((1, 1), (5000, 1), (10, 50)):
        with pytest.raises(ArgumentError):
            planted_cluster(5000, k, inside=inside, leaving=1, outside=1, rng=None)


def test_picture(planted, tmp_path) -> None:
    from matplotlib.image import imread

    found = local_cluster(planted, 5, volume=1280.0)
    assert cluster_png(found, most=60) == cluster_png(found, most=60)
    path = found.draw(tmp_path / "a" / "cluster.png", most=60)
    pixels = imread(io.BytesIO(path.read_bytes()))
    assert pixels.shape[0] > 300
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 50
    with pytest.raises(ArgumentError, match="2 nodes"):
        found.draw(tmp_path / "b.png", most=1)


# -- data -----------------------------------------------------------------------------------------

SHAPES = {
    "amazon_photo": (7650, 119_081, 8),
    "coauthor_cs": (18_333, 81_894, 15),
    "coauthor_phy": (34_493, 247_962, 5),
}


@pytest.mark.parametrize("name", LOCAL_GRAPHS)
def test_published_graphs(name) -> None:
    card = sources.card(name)
    assert {"title", "licence", "source", "split", "citation", "obtain"} <= card.keys()
    assert (card["nodes"], card["edges"], card["classes"]) == SHAPES[name]
    if not all(sources.find([entry["file"]]) for entry in card["files"]):
        pytest.skip(f"GRAPHDIFF_DATA holds no {name}")
    data = load_local_graph(name)
    found = (data.adjacency.shape[0], data.adjacency.nnz // 2, len(np.unique(data.classes)))
    assert found == SHAPES[name]
    assert local_graph(data.adjacency).notes == ()
    assert len(data.members(2)) == (data.classes == 2).sum()
    with pytest.raises(ArgumentError, match="no class 99"):
        data.members(99)


def test_damaged_files(tmp_path) -> None:
    adjacency, classes = parse_local_graph(b"2 3\n1\n1\n\n", b"1\n1\n2\n2\n")
    assert adjacency.toarray()[0].tolist() == [0, 1, 1, 0]
    assert classes.tolist() == [1, 1, 2, 2]
    for neighbours, labels, words in (
        (b"2\n1\n", b"1\n", "1 classes for 2 lines"),
        (b"2\n1 9\n", b"1\n1\n", "expected 1 to 2"),
        (b"2\n\n", b"1\n1\n", "one of its ends"),
        (b"2\nx\n", b"1\n1\n", "no number"),
    ):
        with pytest.raises(DataError, match=words):
            parse_local_graph(neighbours, labels)
    with pytest.raises(DataError, match="found none"):
        load_local_graph("amazon_photo", tmp_path)
    with pytest.raises(ArgumentError, match="known are"):
        load_local_graph("cora")
    folder = tmp_path / "local_clustering" / "amazon_photo"
    folder.mkdir(parents=True)
    (folder / "adj.txt").write_text("1\n")
    with pytest.raises(DataError, match="checksum"):
        load_local_graph("amazon_photo", tmp_path)


def test_suite(tmp_path) -> None:
    suite = load_suite("local_clustering")
    record = suite.run(True, tmp_path)
    assert record["table"]
    assert all({"name", "value", "wanted", "passed"} <= check.keys() for check in record["checks"])
    assert len({tuple(row) for row in record["table"]}) == 1
    assert suite.draw(record, tmp_path / "picture.png").stat().st_size > 10_000
