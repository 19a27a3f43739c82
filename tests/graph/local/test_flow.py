"""Flow diffusion against its optimality conditions, a general solver, and itself."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from scipy.optimize import minimize

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.local import RoomError, flow_diffusion, local_graph, with_labels

SOLVERS = ("solve", "push")


def conditions(weights, sink, source, x, tolerance) -> None:
    """The optimality conditions, recomputed from dense matrices."""
    mass = source - (weights.sum(1) * x - weights @ x)
    assert (x >= 0).all()
    assert (mass <= sink * (1 + tolerance)).all()
    held = x > 0
    assert (np.abs(mass - sink)[held] <= tolerance * sink[held]).all()
    assert mass.sum() == pytest.approx(source.sum())


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("seed", range(4))
def test_optimality_and_a_general_solver(solver, seed, random_graph) -> None:
    graph, weights = random_graph(seed)
    sink = weights.sum(1)
    seeds = [3, 17, 20][: 1 + seed % 3]
    mass = 0.4 * sink.sum()
    source = np.zeros(len(sink))
    source[seeds] = mass / len(seeds)
    found = flow_diffusion(graph, seeds, mass, tolerance=1e-9, solver=solver)
    x = found.dense()
    conditions(weights, sink, source, x, 1e-8)
    assert np.allclose(found.dense("rest").sum(), mass)
    laplacian = np.diag(sink) - weights

    def value(v):
        return 0.5 * v @ laplacian @ v + v @ (sink - source), laplacian @ v + sink - source

    best = minimize(
        value, np.zeros(len(sink)), jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(sink),
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 10_000, "maxfun": 100_000},
    )  # fmt: skip
    assert np.abs(best.x - x).max() < 1e-4 * x.max()
    assert value(x)[0] <= best.fun + 1e-9 * abs(best.fun)


@pytest.mark.parametrize("solver", SOLVERS)
def test_labels_change_weights_but_not_sinks(solver, random_graph, reweighted) -> None:
    graph, weights = random_graph(7)
    labels = np.random.default_rng(0).integers(0, 2, len(weights))
    new = reweighted(weights, labels, 0.05)
    source = np.zeros(len(weights))
    source[5] = mass = 0.3 * weights.sum()
    found = flow_diffusion(with_labels(graph, labels), 5, mass, tolerance=1e-8, solver=solver)
    conditions(new, weights.sum(1), source, found.dense(), 1e-7)


def test_two_nodes_by_hand() -> None:
    # Node 0 keeps 2 of 4, sends 2 along an edge of weight 2: x_0 - x_1 = 1; a third node waits.
    graph = local_graph([(0, 1, 2.0), (1, 2, 1.0)])
    for solver in SOLVERS:
        found = flow_diffusion(graph, 0, 4.0, tolerance=1e-9, solver=solver)
        assert found.dense().tolist() == pytest.approx([1, 0, 0])
        assert found.dense("rest").tolist() == pytest.approx([2, 2, 0])
        assert found.support.tolist() == [0]


@pytest.mark.parametrize("weighted", [False, True])
def test_solvers_agree_on_larger_graphs(weighted) -> None:
    base = nx.connected_watts_strogatz_graph(3000, 8, 0.1, seed=1)
    if weighted:
        rng = np.random.default_rng(0)
        for _, _, data in base.edges(data=True):
            data["weight"] = rng.uniform(0.1, 2)
    graph = local_graph(base)
    a = flow_diffusion(graph, [5, 9], 1500.0, tolerance=1e-7)
    b = flow_diffusion(graph, [5, 9], 1500.0, tolerance=1e-7, solver="push")
    assert np.abs(a.dense() - b.dense()).max() < 1e-3 * a.values.max()
    assert set(a.support) == set(b.support)
    assert a.work.edges < b.work.edges


def test_pushes_never_exceed_the_optimum(random_graph) -> None:
    """The proof of the docstring: any number of rounds stays below."""
    graph, _ = random_graph(3)
    best = flow_diffusion(graph, 0, 30.0, tolerance=1e-10).dense()
    for tolerance in (0.9, 0.3, 0.05):
        found = flow_diffusion(graph, 0, 30.0, tolerance=tolerance, solver="push").dense()
        assert (found <= best + 1e-7).all()
        assert (found[best == 0] == 0).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_opened_volume_is_at_most_the_mass(solver) -> None:
    graph = local_graph(nx.random_regular_graph(6, 2000, seed=0))
    for mass in (10.0, 100.0, 3000.0):
        found = flow_diffusion(graph, 0, mass, solver=solver)
        assert found.work.read <= mass * (1 + 1e-3) * (2 if solver == "solve" else 1)
        assert graph.degree[found.support].sum() <= mass * (1 + 1e-3)


def test_numbers_of_nodes_do_not_matter(random_graph) -> None:
    graph, weights = random_graph(5)
    order = np.random.default_rng(1).permutation(len(weights))
    from scipy import sparse

    other = local_graph(sparse.csr_matrix(weights[np.ix_(order, order)]))
    x = flow_diffusion(graph, 8, 40.0, tolerance=1e-9).dense()
    y = flow_diffusion(other, int(np.argsort(order)[8]), 40.0, tolerance=1e-9).dense()
    assert np.allclose(x[order], y, atol=1e-6 * x.max())


@pytest.mark.parametrize("solver", SOLVERS)
def test_too_much_mass(solver) -> None:
    graph = local_graph(nx.disjoint_union(nx.complete_graph(5), nx.path_graph(50)))
    with pytest.raises(RoomError, match="the graph holds 118"):
        flow_diffusion(graph, 0, 118.0, solver=solver)
    with pytest.raises(RoomError, match="connected to the seeds holds 20"):
        flow_diffusion(graph, 0, 21.0, solver=solver)
    nearly = flow_diffusion(graph, 0, 19.0, solver=solver, tolerance=1e-6)
    assert set(nearly.rows) == set(range(5))
    # Refused after looking at the part of the seed, not at the graph.
    large = local_graph(nx.disjoint_union(nx.complete_graph(5), nx.path_graph(20_000)))
    with pytest.raises(RoomError):
        flow_diffusion(large, 0, 500.0, solver=solver)


def test_isolated_seeds() -> None:
    graph = local_graph(np.array([[0, 1], [1, 2]]), nodes=5)
    with pytest.raises(ArgumentError, match="seed 4; it is isolated"):
        flow_diffusion(graph, [0, 4], 2.0)
    cut = with_labels(graph, [0, 1, 1, 0, 0], unlike=0.0)
    with pytest.raises(ArgumentError, match="seed 0; all its edges have weight 0"):
        flow_diffusion(cut, 0, 2.0)


@pytest.mark.parametrize(
    ("mass", "more", "words"),
    [
        (0.0, {}, "source mass"), (-1.0, {}, "source mass"), (np.nan, {}, "source mass"),
        (2.0, {"tolerance": 0}, "tolerance"), (2.0, {"solver": "magic"}, "solver"),
        (8.0, {"max_rounds": 1}, "not settled"),
        (8.0, {"max_rounds": 1, "solver": "push"}, "not settled"),
    ],
)  # fmt: skip
def test_bad_arguments(mass, more, words) -> None:
    with pytest.raises(ArgumentError, match=words):
        flow_diffusion(local_graph(nx.cycle_graph(10)), 0, mass, **more)


def test_a_long_path_takes_few_rounds() -> None:
    """Its support grows by layers, not by a node in each round."""
    graph = local_graph(nx.path_graph(5000))
    found = flow_diffusion(graph, 2500, 2000.0, tolerance=1e-6)
    assert found.work.rounds < 60
    # By symmetry 500 nodes on each side are full; potentials are a parabola.
    x = found.dense()
    assert abs(len(found.support) - 1000) <= 1
    steps = np.diff(x[2500:2995], 2)
    assert np.allclose(steps, 2.0, atol=1e-3)
    assert found.work.read <= 2 * 2000
