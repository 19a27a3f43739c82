"""Encoders: signs, bases, node orders, padding; networks and their training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from encoding_support import dense, rotated, simple_graphs, symmetric_graphs, widened

from graphdiff.core.errors import ArgumentError
from graphdiff.data.expressivity import cycle_set
from graphdiff.data.graphs import Graphs
from graphdiff.graph.encoding.fit import GraphSet, fit, predict
from graphdiff.graph.encoding.gin import FirstBatchNorm, GINLayer, aggregate
from graphdiff.graph.encoding.network import ENCODERS, GraphNetwork, build, encoder
from graphdiff.graph.encoding.signnet import SignNet
from graphdiff.graph.encoding.spe import SPE, EigenvalueMaps, LightSPE, chebyshev
from graphdiff.graph.encoding.spectrum import Spectrum, decompose
from graphdiff.graph.encoding.walks import return_probabilities

INVARIANT = {
    "spe": lambda: SPE(6, maps=3, hidden=8),
    "spe-deepsets": lambda: SPE(6, maps=3, psi="deepsets", hidden=8),
    "spe-published": lambda: SPE(6, maps=3, degree=1, hidden=8),
    "light": lambda: LightSPE(6, maps=3, hidden=8),
    "light-deepsets": lambda: LightSPE(6, maps=3, psi="deepsets", hidden=8),
}
invariant = pytest.mark.parametrize("name", INVARIANT)


def make(name: str):
    torch.manual_seed(3)
    return widened(INVARIANT[name]())


@invariant
def test_signs_and_bases_change_nothing(name) -> None:
    adj, mask = dense(symmetric_graphs())
    spectrum, net = decompose(adj, mask), make(name)
    before = net(adj, mask, spectrum)
    turned = rotated(spectrum)
    assert float((turned.vectors - spectrum.vectors).abs().max()) > 0.1
    torch.testing.assert_close(net(adj, mask, turned), before, atol=1e-11, rtol=1e-9)
    flipped = spectrum.flipped(np.random.default_rng(0))
    torch.testing.assert_close(net(adj, mask, flipped), before, atol=1e-11, rtol=1e-9)
    assert float(before[mask].std(0).min().detach()) > 1e-4  # it says something


@invariant
def test_a_cut_keeps_the_invariance_with_whole_eigenspaces(name) -> None:
    """And loses it without: the cut after two vectors goes through an eigenspace of C6."""
    adj, mask = dense(symmetric_graphs()[:1])
    net = make(name)
    full = rotated(decompose(adj, mask), 5)
    for whole, same in ((True, True), (False, False)):
        cut = decompose(adj, mask, 2, whole=whole)
        other = Spectrum(full.values[:, :2], full.vectors[:, :, :2], cut.kept)
        other = Spectrum(other.values * cut.kept, other.vectors * cut.kept, cut.kept)
        matrices = [net.psi.matrices(s) for s in (cut, other)]
        assert torch.allclose(*matrices, atol=1e-9) == same


def test_signnet_ignores_signs_only() -> None:
    adj, mask = dense(symmetric_graphs())
    spectrum = decompose(adj, mask)
    torch.manual_seed(0)
    net = widened(SignNet(5, hidden=8))
    before = net(adj, mask, spectrum)
    flipped = spectrum.flipped(np.random.default_rng(0))
    torch.testing.assert_close(net(adj, mask, flipped), before)
    assert float((net(adj, mask, rotated(spectrum)) - before).abs().max().detach()) > 1e-4


@pytest.mark.parametrize("name", [*INVARIANT, "signnet"])
def test_permuting_the_nodes_permutes_the_encoding(name) -> None:
    """Of graphs with simple spectra for SignNet; of any graph for SPE."""
    adj, mask = dense(symmetric_graphs() if name != "signnet" else simple_graphs())
    torch.manual_seed(0)
    net = make(name) if name != "signnet" else widened(SignNet(5, hidden=8))
    order = torch.from_numpy(np.random.default_rng(1).permutation(mask.shape[1]))
    moved, there = adj[:, order][:, :, order], mask[:, order]
    before = net(adj, mask, decompose(adj, mask))
    after = net(moved, there, decompose(moved, there))
    torch.testing.assert_close(after, before[:, order], atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("name", ENCODERS)
def test_padding_and_batch_mates_change_nothing(name) -> None:
    graphs = simple_graphs()
    adj, mask = dense(graphs)
    net = widened(build(name, 3, hidden=8))
    spectrum = decompose(adj, mask)
    whole = net(adj, mask, spectrum)
    for k in range(len(graphs)):
        n = int(graphs.num_nodes[k])
        alone = adj[k : k + 1, :n, :n], mask[k : k + 1, :n], spectrum[k : k + 1].trimmed(n)
        torch.testing.assert_close(net(*alone)[0], whole[k])
    if net.encode is not None:
        encoded = net.encode(adj, mask, spectrum)
        assert encoded[~mask].abs().sum() == 0
        assert encoded.shape[2] == net.encode.width


@invariant
def test_padding_changes_no_encoding_of_any_shape(name) -> None:
    adj, mask = dense(symmetric_graphs())
    spectrum, net = decompose(adj, mask), make(name)
    whole = net(adj, mask, spectrum)
    for k, n in enumerate(mask.sum(1).tolist()):
        alone = adj[k : k + 1, :n, :n], mask[k : k + 1, :n], spectrum[k : k + 1].trimmed(n)
        torch.testing.assert_close(net(*alone)[0], whole[k, :n])


def test_matrices_are_functions_of_the_laplacian() -> None:
    r"""With psi = T_2 the matrix is T_2(L - 1), which needs no decomposition."""
    adj, mask = dense(symmetric_graphs())
    spectrum = decompose(adj, mask)
    x = torch.linspace(0, 2, 9, dtype=torch.float64)
    angle = torch.arccos(x - 1)
    expected = torch.stack([torch.cos(k * angle) for k in range(1, 6)], -1)
    torch.testing.assert_close(chebyshev(x, 5), expected)

    class Second(EigenvalueMaps):
        def forward(self, spectrum):
            return chebyshev(spectrum.values, 2)[..., 1:] * spectrum.kept.unsqueeze(-1)

    found = Second(1).matrices(spectrum).squeeze(-1)
    from graphdiff.graph.encoding.spectrum import laplacian

    both = mask.unsqueeze(2) & mask.unsqueeze(1)
    eye = torch.eye(8, dtype=torch.float64)
    shifted = (laplacian(adj) - eye) * both
    torch.testing.assert_close(found, (2 * shifted @ shifted - eye) * both)


def test_light_spe_can_hold_random_walks() -> None:
    """The diagonals of T_1 .. T_K hold the return probabilities, as the docs of walks say."""
    adj, mask = dense(cycle_set(3, seed=1).graphs)
    spectrum = decompose(adj, mask)
    square = torch.einsum("bnd,bd->bn", spectrum.vectors.square(), (1 - spectrum.values) ** 3)
    torch.testing.assert_close(square * (adj.sum(2) > 0), return_probabilities(adj, 3)[:, :, 2])


def test_the_first_batch_sets_the_norm_and_no_other() -> None:
    """Mean 0 and variance 1 over real entries; fixed from then on, and outside of training."""
    rng = np.random.default_rng(0)
    h = torch.from_numpy(rng.standard_normal((4, 7, 3, 5))) * 3 + 2
    real = torch.ones(4, 7, 3, 1, dtype=torch.float64)
    real[:, 5:] = 0
    norm = FirstBatchNorm(5).double()
    norm.eval()
    torch.testing.assert_close(norm(h, real), h)
    norm.train()
    found = norm(torch.where(real > 0, h, 100.0), real)[:, :5].flatten(0, 2)
    torch.testing.assert_close(found.mean(0), torch.zeros(5).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(found.var(0, unbiased=False), torch.ones(5).double())
    again = norm(h * 9, real)
    norm.eval()
    assert torch.equal(norm(h * 9, real), again)
    state = FirstBatchNorm(5).double()
    state.load_state_dict(norm.state_dict())
    assert torch.equal(state(h * 9, real), again)


def test_deepsets_know_the_other_eigenvalues() -> None:
    torch.manual_seed(0)
    values = torch.tensor([[0.0, 0.5, 1.0, 0.0]])
    vectors, kept = torch.zeros(1, 4, 4), torch.tensor([[True, True, True, False]])
    other = torch.tensor([[0.0, 0.5, 1.7, 0.0]])
    for kind, same in (("mlp", True), ("deepsets", False)):
        psi = EigenvalueMaps(4, kind=kind)
        first = psi(Spectrum(values, vectors, kept))
        second = psi(Spectrum(other, vectors, kept))
        assert torch.equal(first[:, :2], second[:, :2]) == same
        assert first[:, 3].abs().sum() == 0


def test_gine_equals_the_sum_over_edges() -> None:
    """Against messages written out edge by edge, and PyG's GINEConv."""
    from torch_geometric.nn import GINEConv

    rng = np.random.default_rng(0)
    kinds = torch.from_numpy(np.triu(rng.integers(0, 3, (6, 6)), 1))
    kinds = kinds + kinds.t()
    adj = torch.stack([(kinds == c).double() for c in (1, 2)]).unsqueeze(0)
    h = torch.from_numpy(rng.standard_normal((1, 6, 5)))
    torch.manual_seed(0)
    layer = widened(GINLayer(5, 4, kinds=2))
    with torch.no_grad():
        layer.epsilon.fill_(0.4)
    edges = kinds.nonzero().t()
    told = layer.kinds[kinds[edges[0], edges[1]] - 1]
    mlp = torch.nn.Sequential(layer.first, torch.nn.ReLU(), layer.last)
    theirs = GINEConv(mlp, eps=float(layer.epsilon.detach()))
    real = torch.ones(1, 6, 1, dtype=torch.float64)
    torch.testing.assert_close(layer(h, adj, real)[0], theirs(h[0], edges, told))
    plain = GINLayer(5, 5).double()
    both = adj.sum(1)
    expected = h + plain.last(plain.first((1 + plain.epsilon) * h + both @ h).relu())
    torch.testing.assert_close(plain(h, both, real), expected)
    views = torch.from_numpy(rng.standard_normal((1, 6, 3, 5)))
    alone = torch.stack([aggregate(both, views[:, :, k]) for k in range(3)], 2)
    torch.testing.assert_close(aggregate(both, views), alone)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_parameter_learns(name) -> None:
    graphs = GraphSet.of(cycle_set(6).graphs)
    net = build(name, 2, hidden=8, inputs=3)
    x = torch.ones(*graphs.mask.shape, 3) * graphs.mask.unsqueeze(2)
    net(graphs.adj, graphs.mask, graphs.spectrum, x).square().sum().backward()
    idle = {n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert not {name for name in idle if "epsilon" not in name}


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = build("spe", 1, seed=1), build("spe", 1, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_graph_sets_keep_their_order_and_cut_padding() -> None:
    cycles = cycle_set(30)
    data = GraphSet.of(cycles.graphs, cycles.counts)
    seen = list(data.batches(8, np.random.default_rng(0)))
    assert sum(len(part) for part in seen) == 30
    for part in seen:
        assert part.adj.shape[1] == int(part.mask.sum(1).max()) == part.spectrum.vectors.shape[1]
    targets = torch.cat([part.target for part in seen])
    assert sorted(targets[:, 3].tolist()) == sorted(data.target[:, 3].tolist())
    net = build("none", 1, hidden=8)
    one = [predict(net, data.select(torch.tensor([k]))) for k in range(30)]
    torch.testing.assert_close(predict(net, data, batch=7), torch.cat(one), atol=1e-5, rtol=1e-4)


def test_training_learns_selects_on_validation_and_repeats() -> None:
    """Triangle counts of few graphs: the mean is beaten, and the kept epoch is the best one."""
    sets = []
    for seed, count in ((0, 120), (1, 60)):
        made = cycle_set(count, nodes=(8, 12), seed=seed)
        sets.append(GraphSet.of(made.graphs, (made.counts[:, :1] - 15) / 12))
    runs = []
    for _ in range(2):
        net = build("rwpe", 1, hidden=16, seed=0)
        runs.append(fit(net, *sets, epochs=16, batch=20, lr=1e-2, seed=0))
    first, second = runs
    assert first.curve == second.curve
    assert first.steps == 96
    assert first.curve[first.best] == min(first.curve)
    error = float((predict(first.net, sets[1]) - sets[1].target).abs().mean())
    assert error == pytest.approx(first.curve[first.best], rel=1e-5)
    median = float((sets[1].target - sets[0].target.median()).abs().mean())
    assert error < 0.6 * median


def test_the_best_epoch_is_kept_even_if_it_is_not_the_last() -> None:
    """Eight graphs are soon learnt by heart."""
    made = [cycle_set(n, nodes=(8, 12), seed=n) for n in (8, 40)]
    sets = [GraphSet.of(part.graphs, (part.counts[:, :1] - 9) / 4) for part in made]
    found = fit(build("light-spe", 1, hidden=16), *sets, epochs=12, batch=8, lr=3e-2)
    assert found.best < 11
    error = float((predict(found.net, sets[1]) - sets[1].target).abs().mean())
    assert error == pytest.approx(min(found.curve), rel=1e-5)
    assert error < found.curve[-1] - 1e-3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: encoder("pearl"), "there are none, laplacian"),
        (lambda: EigenvalueMaps(0), "at least 1"),
        (lambda: EigenvalueMaps(2, kind="transformer"), "'mlp' or 'deepsets'"),
        (lambda: GraphSet.of(Graphs.empty()), "at least one graph"),
        (lambda: GraphSet.of(cycle_set(3).graphs, np.zeros((2, 1))), "2 targets for 3 graphs"),
        (lambda: GraphSet.of(cycle_set(3).graphs, np.zeros((3, 1, 1))), r"shape \[3, 1, 1\]"),
        (lambda: next(_set(2).batches(0)), "size of 0"),
        (lambda: fit(GraphNetwork(None, 1), _set(2), _empty()), "2 and 0"),
        (lambda: fit(GraphNetwork(None, 1), _set(2), _set(2), loss="mse"), "'mse'; there are l1"),
        (lambda: fit(GraphNetwork(None, 1), _set(2), _set(2), epochs=0), "epochs=0"),
        (lambda: fit(GraphNetwork(None, 1), _set(2), _set(2), batch=0), "batch=0"),
        (lambda: fit(GraphNetwork(None, 1), _set(2), _set(2), lr=0.0), "lr=0.0"),
    ],
)
def test_bad_input(call, words) -> None:
    with pytest.raises(ArgumentError, match=words):
        call()


@pytest.mark.parametrize(
    ("loss", "target", "words"),
    [
        ("l1", np.zeros((4, 4)), r"floats \[4, 1\] as targets of the training .* \[4, 4\]"),
        ("l1", np.arange(4), r"floats \[4, 1\] .* torch.int64 \[4\]"),
        ("ce", np.zeros(4), r"classes \[4\] from 0 to 0 .* torch.float32 \[4, 1\]"),
        ("ce", np.arange(4), r"classes \[4\] from 0 to 0 .* found 0 to 3"),
        ("ce", np.full(4, -1), "found -1 to -1"),
    ],
)
def test_targets_that_the_loss_would_broadcast_are_refused(loss, target, words) -> None:
    """Of a network with one output, as [g, 1] minus [g, 4] or [g] is no error of torch."""
    graphs = cycle_set(4).graphs
    good = GraphSet.of(graphs, np.zeros(4, np.int64) if loss == "ce" else None)
    bad = GraphSet.of(graphs, target)
    with pytest.raises(ArgumentError, match=words):
        fit(GraphNetwork(None, 1), bad, good, loss=loss)
    with pytest.raises(ArgumentError, match="of the validation graphs"):
        fit(GraphNetwork(None, 1), good, bad, loss=loss)
    # A set that was made by hand, its targets a vector.
    vector = replace(good, target=torch.zeros(4))
    with pytest.raises(ArgumentError, match=r"torch.float32 \[4\]"):
        fit(GraphNetwork(None, 1), good, vector, loss=loss)


def test_one_number_for_each_graph_is_a_column() -> None:
    made = cycle_set(20, nodes=(8, 10))
    count = made.counts[:, 0].astype(float)
    curves = []
    for target in (count, count[:, None], made.counts[:, :1]):
        data = GraphSet.of(made.graphs, target)
        assert (data.target.dtype, data.target.shape) == (torch.float32, (20, 1))
        curves.append(fit(build("none", 1, hidden=8), data, data, epochs=2, batch=5).curve)
    assert curves[0] == curves[1] == curves[2]
    assert GraphSet.of(made.graphs, made.counts[:, 0].astype(np.int32)).target.dtype == torch.int64


def _set(count: int) -> GraphSet:
    return GraphSet.of(cycle_set(count).graphs)


def _empty() -> GraphSet:
    full = GraphSet.of(cycle_set(2).graphs)
    return GraphSet(full.adj[:0], full.mask[:0], full.spectrum[slice(0, 0)], full.target[:0])
