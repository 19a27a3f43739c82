from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data import load
from graphdiff.data.corpus import build as building
from graphdiff.data.corpus.build import Settings, build, leaks
from graphdiff.data.corpus.network import Network
from graphdiff.data.corpus.splitting import SPLITS, assign, cut
from graphdiff.data.corpus.statistics import average_degree, clustering, hashes
from graphdiff.data.corpus.subgraphs import induced, neighbourhoods, walks
from graphdiff.data.corpus.table import domain_titles, folder_entries, locate, table
from graphdiff.data.graphs import Graphs
from graphdiff.data.sources import card, find

BOUNDS = (5, 12)
GRAPHS = {
    "ring": nx.cycle_graph(60),
    "grid": nx.convert_node_labels_to_integers(nx.grid_2d_graph(8, 9)),
    "hubs": nx.barabasi_albert_graph(150, 2, seed=3),
    "cliques": nx.connected_caveman_graph(10, 7),
    "parts": nx.disjoint_union(nx.star_graph(20), nx.empty_graph(3)),
}


def network_of(graph: nx.Graph) -> Network:
    return Network.of(list(graph.edges), len(graph))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))


# -- subgraphs --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("sampler", [walks, neighbourhoods])
def test_subgraphs_are_induced_connected_and_within_bounds(name, sampler) -> None:
    graph = GRAPHS[name]
    network = network_of(graph)
    starts = np.flatnonzero(network.degrees)
    sets = sampler(network, starts, BOUNDS, rng())
    assert sets
    packed = induced(network, sets).to_networkx()
    for nodes, found in zip(sets, packed, strict=True):
        assert BOUNDS[0] <= len(nodes) <= BOUNDS[1]
        assert nodes.tolist() == sorted(set(nodes.tolist()))
        expected = nx.relabel_nodes(
            graph.subgraph(nodes.tolist()), {v: k for k, v in enumerate(nodes.tolist())}
        )
        assert {frozenset(e) for e in found.edges} == {frozenset(e) for e in expected.edges}
        assert nx.is_connected(found)


def test_neighbourhoods_are_the_balls_of_radius_two() -> None:
    graph = GRAPHS["hubs"]
    network = network_of(graph)
    for centre in graph:
        ball = sorted(nx.ego_graph(graph, centre, radius=2))
        found = neighbourhoods(network, np.asarray([centre]), (3, 20), rng())
        if 3 <= len(ball) <= 20:
            assert found[0].tolist() == ball
        elif len(ball) > 20:  # thinned, inside the ball, around the centre
            assert centre in found[0]
            assert set(found[0].tolist()) <= set(ball)
            assert 3 <= len(found[0]) <= 20
        else:
            assert not found


def test_walks_are_random_walks_with_restart() -> None:
    """On a star every second step is back at the hub: the nodes met are exact."""
    network = network_of(nx.star_graph(30))
    (nodes,) = walks(network, np.asarray([4]), (6, 6), rng())
    assert {0, 4} <= set(nodes.tolist())
    # A walk on a path that never restarts but at its end reaches the other end at last, and one
    # that restarts always stays within one step.
    path = network_of(nx.path_graph(5))
    assert walks(path, np.asarray([2]), (3, 3), rng(), restart=1.0)[0].tolist() == [1, 2, 3]
    assert not walks(path, np.asarray([2]), (4, 4), rng(), restart=1.0)


def test_sizes_asked_for_are_uniform() -> None:
    network = network_of(nx.complete_graph(40))
    sets = walks(network, np.zeros(4000, np.int64), (5, 9), rng())
    counts = Counter(len(s) for s in sets)
    # 4000 draws of 5 sizes: 800 each, standard deviation 25.3; five of them.
    assert sorted(counts) == [5, 6, 7, 8, 9]
    assert max(abs(c - 800) for c in counts.values()) < 127


def test_samplers_depend_on_the_seed_only() -> None:
    network = network_of(GRAPHS["hubs"])
    starts = np.arange(100)
    for sampler in (walks, neighbourhoods):
        one, two, other = (sampler(network, starts, BOUNDS, rng(s)) for s in (1, 1, 2))
        assert [s.tolist() for s in one] == [s.tolist() for s in two]
        assert [s.tolist() for s in one] != [s.tolist() for s in other]


@pytest.mark.parametrize("nodes", [(1, 5), (6, 5)])
def test_bounds_are_checked(nodes) -> None:
    with pytest.raises(ArgumentError, match="2 <= smallest"):
        walks(network_of(GRAPHS["ring"]), np.arange(3), nodes, rng())


# -- statistics and hashes --------------------------------------------------------------------


def test_statistics_agree_with_networkx() -> None:
    graphs = [*GRAPHS.values(), nx.karate_club_graph(), nx.complete_graph(5)]
    packed = Graphs.from_networkx([nx.convert_node_labels_to_integers(g) for g in graphs])
    # Both sum the same rationals in float64, in different orders.
    assert clustering(packed) == pytest.approx(
        [nx.average_clustering(g) for g in graphs], abs=1e-12
    )
    degrees = [2 * g.number_of_edges() / len(g) for g in graphs]
    assert average_degree(packed) == pytest.approx(degrees, rel=1e-15)


@pytest.mark.filterwarnings("ignore:The hashes produced for graphs without")
def test_hashes_tell_all_small_connected_graphs_apart_as_refinement_does() -> None:
    """All 996 connected graphs of up to 7 nodes: equal hash exactly where networkx' refinement of
    as many rounds ends equal."""
    graphs = [g for g in nx.graph_atlas_g() if len(g) >= 2 and nx.is_connected(g)]
    mine = hashes(Graphs.from_networkx(graphs))
    theirs = [nx.weisfeiler_lehman_graph_hash(g, iterations=8) for g in graphs]
    assert len(set(mine.tolist())) == len(set(theirs))
    assert len(set(zip(mine.tolist(), theirs, strict=True))) == len(set(theirs))


def test_hashes_do_not_depend_on_the_order_of_nodes() -> None:
    graph = GRAPHS["hubs"]
    order = rng().permutation(len(graph))
    shuffled = nx.relabel_nodes(graph, dict(enumerate(order.tolist())))
    packed = Graphs.from_lists([150, 150], [list(graph.edges), list(shuffled.edges)])
    one, two = hashes(packed).tolist()
    assert one == two


# -- splits -----------------------------------------------------------------------------------


def test_groups_stay_together_and_shares_are_kept() -> None:
    groups = [f"g{k // 2}" for k in range(40)]
    how, sides = assign(groups, [5000] * 40, (8, 64), rng())
    assert how == "network"
    by_group = {g: {s for h, s in zip(groups, sides, strict=True) if h == g} for g in groups}
    assert all(len(s) == 1 for s in by_group.values())
    assert Counter(side for (side,) in sides) == {"train": 32, "val": 4, "test": 4}


@pytest.mark.parametrize(
    ("groups", "sizes", "how", "expected"),
    [
        (["a", "b"], [5000, 100], "regions", [SPLITS, ("train",)]),
        (["a", "b", "a"], [5000, 100, 6000], "regions", [(), ("train",), SPLITS]),
        (["a"], [50], "train only", [("train",)]),
        (["a", "a"], [50, 60], "train only", [("train",), ("train",)]),
    ],
)
def test_domains_of_few_networks(groups, sizes, how, expected) -> None:
    assert assign(groups, sizes, (8, 64), rng()) == (how, expected)


def test_two_small_networks_and_small_groups() -> None:
    how, sides = assign(["a", "b"], [60, 70], (8, 64), rng())
    assert how == "two networks"
    assert sorted(sides) == [("test",), ("train",)]
    groups, sizes = [f"g{k}" for k in range(6)], [300, 40, 300, 40, 300, 40]
    for seed in range(20):
        _, sides = assign(groups, sizes, (8, 64), rng(seed))
        assert {sides[k] for k in (1, 3, 5)} == {("train",)}
    assert assign(["a"] * 3, [9000] * 3, (8, 64), rng(), "regions")[0] == "regions"


@pytest.mark.parametrize("name", ["hubs", "grid", "ring"])
def test_regions_have_no_common_node(name, monkeypatch) -> None:
    graph = GRAPHS[name]
    seen: list[set[int]] = []
    whole = Network.induced

    def spy(self: Network, nodes) -> Network:
        seen.append(set(nodes.tolist()))
        return whole(self, nodes)

    monkeypatch.setattr(Network, "induced", spy)
    regions = cut(network_of(graph), 12, rng())
    assert sum(map(len, seen)) == len(set.union(*seen)) == len(graph)
    tenth = round(0.1 * len(graph))
    assert sorted(map(len, seen)) == [tenth, tenth, len(graph) - 2 * tenth]
    assert regions["test"].num_nodes == regions["val"].num_nodes == tenth


# -- the corpus -------------------------------------------------------------------------------


def write_folder(base: Path) -> Path:
    """Three domains: many networks, one large network, one small network."""
    makers = {f"trees/t{k}.txt": nx.random_labeled_tree(300, seed=k) for k in range(6)}
    makers |= {"web/big.edges": nx.barabasi_albert_graph(900, 2, seed=1)}
    makers |= {"small/karate.txt": nx.karate_club_graph()}
    for name, graph in makers.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(f"{u} {v}" for u, v in graph.edges))
    (base / "web" / "README.md").write_text("not a network")
    return base


OPTIONS = {"nodes": (6, 20), "counts": (60, 20, 20)}


def test_a_folder_becomes_a_corpus(tmp_path) -> None:
    folder = write_folder(tmp_path / "mine")
    data = load("lggm", folder=folder, **OPTIONS)
    assert data.domains == ("small", "trees", "web")
    rows = data.card["domains"]
    assert {d: rows[d]["split"] for d in rows} == {
        "small": "train only", "trees": "network", "web": "regions"
    }  # fmt: skip
    # Test sets are drawn first; small trees of theirs may be missing from the others.
    assert rows["trees"]["graphs"]["test"] == 20
    assert 15 <= rows["trees"]["graphs"]["val"] <= 20
    assert 50 <= rows["trees"]["graphs"]["train"] <= 60
    assert rows["small"]["graphs"]["test"] == 0
    assert data.card["licence"] == "your own"
    sides = rows["trees"]["networks"]
    assert sorted(name for names in sides.values() for name in names) == [
        f"trees/t{k}.txt" for k in range(6)
    ]
    for index in data.splits.values():
        assert (data.graphs.num_nodes[index] >= 6).all()
        assert (data.graphs.num_nodes[index] <= 20).all()
    again = load("lggm", folder=folder, **OPTIONS)  # from the cache
    assert again.graphs == data.graphs
    assert again.card == data.card
    other = load("lggm", folder=folder, seed=1, **OPTIONS)
    assert other.graphs != data.graphs


def test_nothing_of_a_later_split_is_in_an_earlier_one(tmp_path) -> None:
    data = load("lggm", folder=write_folder(tmp_path / "mine"), **OPTIONS)
    assert set(data.card["leaks"].values()) == {0}
    # Independent of the hash: no training graph is isomorphic to a test graph.
    train, test = (data.split(s).to_networkx() for s in ("train", "test"))
    keys = Counter((len(g), g.number_of_edges()) for g in test)
    for graph in train:
        if (len(graph), graph.number_of_edges()) in keys:
            alike = (g for g in test if len(g) == len(graph) and g.size() == graph.size())
            assert not any(nx.vf2pp_is_isomorphic(graph, g) for g in alike)
    # And networks of the domain that is split by network are on one side only.
    trees = data.domains.index("trees")
    for number in np.unique(data.network[data.domain == trees]):
        mine = np.flatnonzero(data.network == number)
        assert sum(bool(np.isin(mine, index).any()) for index in data.splits.values()) == 1


def test_the_leak_check_finds_a_leak(tmp_path, monkeypatch) -> None:
    """Without the removal, small trees of one network are in others, too: the check sees it."""
    entries = folder_entries(write_folder(tmp_path / "mine"))
    found = [locate(e) for e in entries]
    settings = Settings(OPTIONS["nodes"], OPTIONS["counts"])
    clean = build(found, settings)
    assert set(leaks(clean.graphs, clean.split).values()) == {0}
    monkeypatch.setattr(building, "_drop_repeats", lambda pools, report: None)
    leaky = build(found, settings)
    assert leaks(leaky.graphs, leaky.split)["train-test"] > 0
    twice = Graphs.from_lists([3, 3], [[(0, 1), (1, 2)], [(0, 2), (2, 1)]])
    assert leaks(twice, np.asarray([0, 2]))["train-test"] == 1


def test_adding_a_domain_changes_no_other(tmp_path) -> None:
    folder = write_folder(tmp_path / "mine")
    one = load("lggm", folder=folder, **OPTIONS)
    (folder / "rings").mkdir()
    (folder / "rings" / "r.txt").write_text("\n".join(f"{k} {(k + 1) % 9}" for k in range(9)))
    two = load("lggm", folder=folder, **OPTIONS)
    a = one.graphs[one.of_domain("trees", "test")]
    assert a == two.graphs[two.of_domain("trees", "test")]


def test_domains_and_holdout(tmp_path) -> None:
    folder = write_folder(tmp_path / "mine")
    data = load("lggm", folder=folder, holdout="trees", domains=["web", "trees"], **OPTIONS)
    assert set(data.splits) == {*SPLITS, *(f"holdout_{s}" for s in SPLITS)}
    named = {s: {data.domains[d] for d in data.domain[i]} for s, i in data.splits.items()}
    assert named["train"] == {"web"}
    assert named["holdout_train"] == named["holdout_test"] == {"trees"}
    with pytest.raises(ArgumentError, match=r"no domain 'sea': choose from small, trees, web"):
        load("lggm", folder=folder, holdout=["sea"], **OPTIONS)


def test_domains_are_drawn_evenly(tmp_path) -> None:
    data = load("lggm", folder=write_folder(tmp_path / "mine"), **OPTIONS)
    weights = data.weights("train")
    domain = data.domain[data.splits["train"]]
    shares = np.bincount(domain, weights)
    assert shares == pytest.approx([1 / 3] * 3)
    # Five epochs of 90: 30 a domain and epoch, and nothing twice before everything once.
    epochs = [data.epoch(90, seed=4, epoch=e) for e in range(5)]
    for index in epochs:
        assert np.bincount(domain[index]).tolist() == [30, 30, 30]
    for d in range(3):
        seen = np.concatenate([i[domain[i] == d] for i in epochs])
        counts = Counter(seen.tolist())
        members = np.flatnonzero(domain == d).tolist()
        assert max(counts.values()) - min(counts[m] for m in members) <= 1
    assert (data.epoch(90, seed=4, epoch=3) == epochs[3]).all()
    assert (data.epoch(90, seed=5, epoch=3) != epochs[3]).any()
    assert data.sizes("web").sum() == len(data.of_domain("web"))


def test_lists_of_small_graphs_are_split_by_graph(tmp_path) -> None:
    graphs = [g for g in nx.graph_atlas_g() if len(g) == 7 and nx.is_connected(g)][:300]
    (tmp_path / "mine" / "atlas").mkdir(parents=True)
    Graphs.from_networkx([*graphs, *graphs[:50]]).save(tmp_path / "mine" / "atlas" / "all.npz")
    data = load("lggm", folder=tmp_path / "mine", nodes=(6, 20), counts=(60, 20, 20))
    assert data.card["domains"]["atlas"]["graphs"] == {"train": 60, "val": 20, "test": 20}
    assert set(data.card["leaks"].values()) == {0}


def test_bad_folders_and_options(tmp_path) -> None:
    with pytest.raises(ArgumentError, match="no folder"):
        load("lggm", folder=tmp_path / "gone")
    with pytest.raises(DataError, match="FOLDER/DOMAIN/FILE"):
        load("lggm", folder=tmp_path)
    folder = write_folder(tmp_path / "mine")
    with pytest.raises(ArgumentError, match="'network' or 'regions'"):
        load("lggm", folder=folder, split="random")
    with pytest.raises(ArgumentError, match="three positive numbers"):
        load("lggm", folder=folder, counts=(1, 2))
    with pytest.raises(DataError, match="found none of the files listed"):
        load("lggm", root=tmp_path)


def test_the_command(tmp_path) -> None:
    from typer.testing import CliRunner

    from graphdiff.cli.data import app

    words = ["build", "lggm-corpus", "--folder", str(write_folder(tmp_path / "mine"))]
    done = CliRunner().invoke(app, [*words, "--nodes", "6", "20", "--split", "regions"])
    assert done.exit_code == 0, done.output
    assert "trees\tregions\t6\t" in done.output


def test_the_table() -> None:
    entries = table()
    assert len({e.name for e in entries}) == len(entries)
    assert {e.domain for e in entries} == set(domain_titles())
    for entry in entries:
        assert {"licence", "origin", "citation"} <= entry.options.keys()
        assert entry.many or len(entry.options.get("sha256", "")) == 64


def test_every_file_of_the_table_has_an_address_or_a_package() -> None:
    addresses = {entry["file"]: entry for entry in card("lggm")["fetch"]}
    for entry in table():
        if "file" in entry.options and "package" not in entry.options:
            address = addresses.pop(entry.options["file"])
            assert address["url"].startswith("https://")
            assert address["url"].endswith(Path(address["file"]).name)
            assert len(address["sha256"]) == 64
    assert not addresses


def test_files_of_packages_are_read_and_nothing_of_them_runs(tmp_path, monkeypatch) -> None:
    entry = next(e for e in table() if e.name == "fly-mushroom-body-left")
    package = tmp_path / "graspologic"
    (package / entry.options["member"]).parent.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / entry.options["member"]).write_text("0 1\n1 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("GRAPHDIFF_DATA", raising=False)
    monkeypatch.delitem(sys.modules, "graspologic", raising=False)
    found = locate(entry)
    assert found.name == str(package / entry.options["member"])
    with pytest.raises(DataError, match="another network"):
        found.networks()


def test_networks_of_networkx_are_the_recorded_ones() -> None:
    for entry in table():
        if "networkx" in entry.options:
            found = locate(entry)
            assert found is not None
            assert found.networks()[0].sha256() == entry.options["sha256"]


def test_another_network_under_a_known_name_is_refused(tmp_path) -> None:
    entry = next(e for e in table() if e.name == "europe")
    path = tmp_path / entry.options["file"]
    path.parent.mkdir(parents=True)
    path.write_text("1 2\n2 3\n")
    found = locate(entry, tmp_path)
    with pytest.raises(DataError, match="another network than the one recorded for 'europe'"):
        found.networks()


@pytest.mark.slow
def test_the_whole_corpus() -> None:
    if not all(find([e.options["file"]]) for e in table() if "file" in e.options):
        pytest.skip("the networks of the table are not under GRAPHDIFF_DATA")
    data = load("lggm")
    assert len(data.domains) == 17
    assert len(data.graphs) > 15_000
    assert set(data.card["leaks"].values()) == {0}
    assert not data.card["missing"]
    for domain, row in data.card["domains"].items():
        assert row["graphs"]["test"] > 0 or row["split"] == "train only", domain
