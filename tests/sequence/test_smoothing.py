"""Graph smoothing: closed forms, brute force, invariances, a saved predictor, the published one."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from graphdiff.core.errors import ArgumentError
from graphdiff.sequence.alphabet import DNA, PROTEIN
from graphdiff.sequence.hamming import neighbour_graph, neighbourhood
from graphdiff.sequence.oracles import (
    GGS_LETTERS,
    GGSNetwork,
    GGSOracle,
    OracleReward,
    ggs_oracle,
    oracle_rewards,
    predict_sequences,
)
from graphdiff.sequence.regressor_score import pearson, spearman
from graphdiff.sequence.sequences import Sequences, concat
from graphdiff.sequence.smoothing import save_oracle, smooth, smoothed

ROOT = Path(os.environ.get("GRAPHDIFF_DATA", "")) / "sequence" / "aav_ggs"
public = pytest.mark.skipif(
    not (ROOT / "aav_medium_smoothed_predictor.ckpt").is_file(),
    reason="needs the AAV files of GGS below $GRAPHDIFF_DATA/sequence/aav_ggs",
)


def drawn(n: int, size: int = 6, seed: int = 0, letters: int = 20) -> Sequences:
    tokens = np.random.default_rng(seed).integers(0, letters, (4 * n, size))
    first = np.sort(np.unique(tokens, axis=0, return_index=True)[1])[:n]
    return Sequences.from_dense(tokens[first], PROTEIN if letters == 20 else DNA)


def hamming(sequences: Sequences) -> np.ndarray:
    rows, _ = sequences.dense()
    return (rows[:, None] != rows[None]).sum(-1)


def laplacian(graph: csr_matrix) -> np.ndarray:
    """Normalised, dense, from its definition."""
    weights = graph.toarray()
    degree = weights.sum(1)
    return np.eye(len(degree)) - weights / np.sqrt(degree[:, None] * degree[None])


def graph_of(n: int = 60, neighbours: int = 7) -> csr_matrix:
    return neighbour_graph(drawn(n), neighbours)


def published_shape(seed: int = 0, width: int = 16) -> GGSOracle:
    torch.manual_seed(seed)
    order = torch.tensor([PROTEIN.letters.index(letter) for letter in GGS_LETTERS])
    return GGSOracle("rough", GGSNetwork(width).requires_grad_(False), order)


# -- nodes -------------------------------------------------------------------------------------


def test_nodes_are_the_given_sequences_and_single_substitutions_in_even_numbers() -> None:
    given = drawn(12)
    nodes = neighbourhood(concat([given, given[:3]]), 12 + 12 * 5, seed=1)
    assert len(set(nodes.strings())) == len(nodes) == 72
    assert set(nodes.strings()[:12]) == set(given.strings())
    far = (nodes.dense()[0][12:, None] != given.dense()[0][None]).sum(-1)
    assert (far.min(1) == 1).all()
    assert np.bincount(far.argmin(1), minlength=12).tolist() == [5] * 12


def test_nodes_do_not_depend_on_order_and_grow_with_n() -> None:
    given = drawn(9)
    some = neighbourhood(given, 50, seed=3)
    assert neighbourhood(given[::-1], 50, seed=3) == some
    assert neighbourhood(given, 80, seed=3)[:50] == some
    assert neighbourhood(given, 50, seed=4) != some


def test_all_substitutions_are_found_and_no_more() -> None:
    given = Sequences.from_strings(["AAA", "AAC"], DNA)
    everything = {"AAA", "AAC"} | {
        text[:i] + letter + text[i + 1 :]
        for text in ("AAA", "AAC")
        for i in range(3)
        for letter in "ACGT"
    }
    assert set(neighbourhood(given, len(everything)).strings()) == everything
    with pytest.raises(ArgumentError, match=f"all their substitutions are {len(everything)}"):
        neighbourhood(given, len(everything) + 1)


# -- graph -------------------------------------------------------------------------------------


def test_neighbours_are_those_of_brute_force() -> None:
    nodes, k = drawn(90, size=5, letters=4), 8
    distance = hamming(nodes)
    graph = neighbour_graph(nodes, k).toarray()
    assert np.array_equal(graph, graph.T)
    assert np.allclose(graph[graph > 0], 1 / distance[graph > 0])
    assert (graph.diagonal() == 0).all()
    np.fill_diagonal(distance, 99)
    reach = np.sort(distance, 1)[:, k - 1]  # the k-th smallest distance of each node
    for i in range(len(nodes)):
        assert (graph[i] > 0).sum() >= k
        assert (graph[i, distance[i] < reach[i]] > 0).all()
        linked = np.flatnonzero(graph[i])
        assert (distance[i, linked] <= np.maximum(reach[i], reach[linked])).all()
    # before symmetry there are k links of each node, so at most 2 k n entries
    assert len(nodes) * k <= (graph > 0).sum() <= 2 * len(nodes) * k


def test_the_graph_is_independent_of_blocks_and_order() -> None:
    nodes = drawn(80, size=4, letters=4)  # nearly all distances are ties
    graph = neighbour_graph(nodes, 6).toarray()
    for block in (1, 7, 80):
        assert np.array_equal(neighbour_graph(nodes, 6, block=block).toarray(), graph)
    order = np.random.default_rng(0).permutation(80)
    moved = neighbour_graph(nodes[order], 6).toarray()
    assert np.array_equal(moved, graph[np.ix_(order, order)])
    assert not np.array_equal(neighbour_graph(nodes, 6, seed=1).toarray(), graph)


def test_ties_make_no_hubs() -> None:
    nodes = Sequences.from_dense(np.eye(20, dtype=np.int64) * 3, PROTEIN)
    assert (hamming(nodes)[~np.eye(20, dtype=bool)] == 2).all()
    counts = (neighbour_graph(nodes, 4) > 0).sum(1)
    assert counts.min() >= 4
    assert counts.max() <= 9


# -- smoothing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.1, 1.0, 50.0])
def test_values_solve_the_dense_equations(gamma: float) -> None:
    graph = graph_of()
    values = np.random.default_rng(0).normal(size=60)
    expected = np.linalg.solve(np.eye(60) + gamma * laplacian(graph), values)
    assert np.allclose(smooth(values, graph, gamma), expected, atol=1e-6)


def test_two_nodes_by_hand() -> None:
    graph = csr_matrix([[0.0, 0.5], [0.5, 0.0]])  # L = [[1, -1], [-1, 1]]
    # the mean stays, the difference shrinks by 1 + 2 gamma
    assert smooth([1.0, 3.0], graph, 1.0) == pytest.approx([2 - 1 / 3, 2 + 1 / 3])
    assert smooth([1.0, 3.0], graph, 4.5) == pytest.approx([1.9, 2.1])


def test_gamma_zero_is_the_identity() -> None:
    values = np.random.default_rng(1).normal(size=60)
    assert np.array_equal(smooth(values, graph_of(), 0.0), values)


def test_what_is_kept() -> None:
    graph = graph_of()
    root = np.sqrt(np.asarray(graph.sum(1)).ravel())
    assert root.std() > 0.01  # so that constants are another signal
    assert np.allclose(smooth(3 * root, graph, 7.0), 3 * root, atol=1e-6)
    values = np.random.default_rng(2).normal(size=60)
    assert root @ smooth(values, graph, 7.0) == pytest.approx(root @ values, abs=1e-5)
    ring = csr_matrix(np.roll(np.eye(9), 1, 0) + np.roll(np.eye(9), -1, 0))
    assert smooth(np.full(9, 2.5), ring, 3.0) == pytest.approx(np.full(9, 2.5))  # equal degrees
    apart = csr_matrix((3, 3))
    assert smooth([1.0, 2.0, 3.0], apart, 3.0).tolist() == [1.0, 2.0, 3.0]


def test_energy_and_spread_fall_with_gamma() -> None:
    graph, values = graph_of(), np.random.default_rng(3).normal(size=60)
    own = laplacian(graph)
    found = [smooth(values, graph, gamma) for gamma in (0.0, 0.3, 1.0, 10.0)]
    energy = [y @ own @ y for y in found]
    assert all(b < 0.8 * a for a, b in pairwise(energy))
    assert energy[2] < (1 + 1) ** -1 * energy[0]  # all but the kept part shrinks


def test_smoothing_is_linear_and_follows_the_order_of_nodes() -> None:
    nodes, rng = drawn(60), np.random.default_rng(4)
    graph, (a, b) = neighbour_graph(nodes, 7), rng.normal(size=(2, 60))
    both = smooth(2 * a - b, graph, 1.0)
    assert np.allclose(both, 2 * smooth(a, graph, 1.0) - smooth(b, graph, 1.0), atol=1e-6)
    order = rng.permutation(60)
    moved = smooth(a[order], neighbour_graph(nodes[order], 7), 1.0)
    assert np.allclose(moved, smooth(a, graph, 1.0)[order], atol=1e-6)


# -- a predictor -------------------------------------------------------------------------------


def test_a_smoothed_predictor_is_learned_saved_and_named(tmp_path: Path) -> None:
    rough, given = published_shape(), drawn(20, size=8)
    state = torch.random.get_rng_state()
    seen: list[tuple[str, float]] = []
    made = smoothed(
        rough, given, nodes=400, epochs=30, batch_size=64, seed=1,
        progress=lambda stage, share: seen.append((stage, share)),
    )  # fmt: skip
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [stage for stage, share in seen if share == 1.0] == ["graph", "train"]
    nodes = neighbourhood(given, 400, seed=1)
    graph = neighbour_graph(nodes, 21, seed=1)
    wanted = smooth(predict_sequences(rough, nodes)[:, 0], graph, 1.0)
    found = predict_sequences(made, nodes)[:, 0]
    assert pearson(found, wanted) > 0.95
    assert found.mean() == pytest.approx(wanted.mean(), abs=0.2 * wanted.std())
    path = save_oracle(made, tmp_path / "soft.ckpt")
    reward = oracle_rewards(PROTEIN)["oracle"](f"{path}@normalised")
    assert isinstance(reward, OracleReward)
    assert reward.name == "oracle:soft@normalised"
    assert np.array_equal(predict_sequences(reward.predictor, nodes)[:, 0], found)
    assert list(tmp_path.iterdir()) == [path]


def test_a_seed_decides_everything() -> None:
    rough, given = published_shape(), drawn(10, size=8)
    settings = {"nodes": 100, "epochs": 1, "neighbours": 5}
    torch.manual_seed(5)
    one = smoothed(rough, given, seed=1, **settings)  # type: ignore[arg-type]
    torch.manual_seed(6)
    two = smoothed(rough, given[::-1], seed=1, **settings)  # type: ignore[arg-type]
    three = smoothed(rough, given, seed=2, **settings)  # type: ignore[arg-type]
    first, second, third = (predict_sequences(m, given) for m in (one, two, three))
    assert np.array_equal(first, second)
    assert not np.allclose(first, third)
    assert not any(p.requires_grad for p in one.net.parameters())


# -- errors ------------------------------------------------------------------------------------


def test_errors_of_nodes_and_graphs() -> None:
    given = drawn(5)
    with pytest.raises(ArgumentError, match="one length, found lengths 2 to 3"):
        neighbourhood(Sequences.from_strings(["AC", "ACD"], PROTEIN), 10)
    with pytest.raises(ArgumentError, match="found lengths none"):
        neighbour_graph(Sequences.empty(PROTEIN), 1)
    with pytest.raises(ArgumentError, match="n is 4, but 5 different"):
        neighbourhood(given, 4)
    with pytest.raises(ArgumentError, match="allow 5 to 575"):
        neighbourhood(given, 576)
    for k in (0, 5):
        with pytest.raises(ArgumentError, match=f"neighbours is {k}, but 5 nodes allow 1 to 4"):
            neighbour_graph(given, k)
    with pytest.raises(ArgumentError, match="2 of 7 nodes are repetitions"):
        neighbour_graph(concat([given, given[:2]]), 2)


def test_errors_of_smoothing() -> None:
    graph = graph_of(10, 3)
    with pytest.raises(ArgumentError, match=r"shape \[9\] and the graph \[10, 10\]"):
        smooth(np.zeros(9), graph)
    with pytest.raises(ArgumentError, match="value 3 is nan"):
        smooth(np.where(np.arange(10) == 3, np.nan, 0.0), graph)
    for gamma in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ArgumentError, match="gamma must be 0 or more"):
            smooth(np.zeros(10), graph, gamma)
    with pytest.raises(ArgumentError, match="negative weight, or another weight for the way back"):
        smooth(np.zeros(2), csr_matrix([[0.0, 1.0], [0.5, 0.0]]))
    with pytest.raises(ArgumentError, match="negative weight"):
        smooth(np.zeros(2), csr_matrix([[0.0, -1.0], [-1.0, 0.0]]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "colour"}, "predicts fitness, normalised, not 'colour'"),
        ({"epochs": 0}, "epochs must be positive"),
        ({"batch_size": 0}, "batch_size must be positive"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"gamma": -1.0}, "gamma must be 0 or more"),
        ({"neighbours": 100}, "neighbours is 100, but 100 nodes"),
        ({"nodes": 5}, "n is 5, but 10 different"),
    ],
)
def test_errors_of_a_smoothed_predictor(change: dict[str, object], message: str) -> None:
    class Untouched(GGSOracle):
        def __call__(self, *_: object) -> torch.Tensor:
            raise AssertionError("work began")

    rough = published_shape()
    silent = Untouched(rough.name, rough.net, rough.order)
    with pytest.raises(ArgumentError, match=message):
        smoothed(silent, drawn(10, size=8), **{"nodes": 100, **change})  # type: ignore[arg-type]


def test_other_sequences_and_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="five residues or more, not protein of 4"):
        smoothed(published_shape(), drawn(10, size=4))
    with pytest.raises(ArgumentError, match="not dna of 6"):
        smoothed(published_shape(), drawn(10, letters=4))
    with pytest.raises(ArgumentError, match=r"must end in \.ckpt"):
        save_oracle(published_shape(), tmp_path / "soft.pt")


# -- the published predictor -------------------------------------------------------------------


@public
@pytest.mark.slow
def test_it_ranks_measured_variants_as_the_published_smoothed_predictor_does() -> None:
    from graphdiff.data import load

    whole = load("aav")
    rough, theirs = (
        ggs_oracle(ROOT / f"aav_medium_{kind}_predictor.ckpt")
        for kind in ("unsmoothed", "smoothed")
    )
    ours = smoothed(rough, whole.split("medium"), nodes=10_000, epochs=8)
    part = whole.split("train")
    part = part[np.sort(np.random.default_rng(0).choice(len(part), 4000, replace=False))]
    before, goal, after = (predict_sequences(p, part)[:, 0] for p in (rough, theirs, ours))
    assert spearman(after, goal) > spearman(before, goal) + 0.1
