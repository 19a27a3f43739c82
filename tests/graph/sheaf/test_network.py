"""Networks over sheaves: layers against their equation, symmetry, depth, continuous time."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from graphdiff.core.errors import ArgumentError, ConfigError
from graphdiff.data.nodes import simple_edges
from graphdiff.graph.sheaf import SheafConfig, SheafNetwork, Topology
from graphdiff.graph.sheaf.network import SheafLayer
from graphdiff.graph.sheaf.ode import SheafODE, heat, heat_terms

N, F, C = 13, 6, 3
SHEAVES = ("diagonal", "bundle", "general", "identity", "connection")


def graph(seed: int = 0, n: int = N, share: float = 0.35) -> tuple[Topology, torch.Tensor]:
    rng = np.random.default_rng(seed)
    edges, _ = simple_edges(np.array(np.nonzero(np.triu(rng.random((n, n)) < share, 1))), n)
    return Topology.of(edges, n), torch.from_numpy(rng.standard_normal((n, F)))


def network(**changes) -> SheafNetwork:
    torch.manual_seed(3)
    config = SheafConfig(**{"stalk": 2, "layers": 2, "hidden": 4, "dropout": 0.0, **changes})
    made = SheafNetwork(config, F, C, N).double()
    with torch.no_grad():  # gates at zero would hide their mistakes
        for parameter in made.parameters():
            parameter += 0.1 * torch.sin(torch.arange(parameter.numel())).view_as(parameter)
    return made.eval()


def dense_chebyshev(matrix: torch.Tensor, layer: SheafLayer) -> torch.Tensor:
    """The polynomial by eigenvalues, T_k(cos a) = cos(k a)."""
    values, vectors = torch.linalg.eigh(matrix)
    angle = torch.arccos((values - 1).clamp(-1, 1))
    theta = torch.softmax(layer.theta, 0)
    response = sum(theta[k] * torch.cos(k * angle) for k in range(len(theta)))
    return (vectors * (response + layer.gate * values)) @ vectors.T


@pytest.mark.parametrize("filter", ["diffusion", "chebyshev"])
@pytest.mark.parametrize("maps", SHEAVES)
def test_layer_is_its_equation(maps, filter):
    topology, x = graph()
    net = network(maps=maps, filter=filter, layers=1)
    section = net.encode(x, topology)
    laplacian = net.fixed(x, topology) or net.laplacian(section, topology)
    layer = net.layers[0]
    matrix = laplacian.main.dense()
    d, h = net.config.width, net.config.hidden
    operator = matrix if filter == "diffusion" else dense_chebyshev(matrix, layer)
    mixed = torch.einsum("kl,nlh,ch->nkc", layer.stalks.weight, section, layer.channels.weight)
    moved = (operator @ mixed.reshape(N * d, h)).view(N, d, h)
    wanted = (1 + torch.tanh(layer.keep)) * section - nn.functional.elu(moved)
    torch.testing.assert_close(layer(section, laplacian), wanted)


@pytest.mark.parametrize("maps", SHEAVES)
def test_node_order_does_not_matter(maps):
    topology, x = graph(1)
    order = torch.from_numpy(np.random.default_rng(2).permutation(N))
    edges = torch.stack([topology.v, topology.u])[:, topology.v < topology.u]
    place = torch.empty(N, dtype=torch.long)
    place[order] = torch.arange(N)
    moved, _ = simple_edges(place[edges].numpy(), N)
    net = network(maps=maps, lowpass=maps != "connection")
    there = net(x[order], Topology.of(moved, N))
    # Signs of local bases are free, and the classes do not depend on them only in theory: a
    # connection is compared on its spectrum, all others on their answers.
    if maps == "connection":
        first = net.fixed(x, topology).main.spectrum()
        second = net.fixed(x[order], Topology.of(moved, N)).main.spectrum()
        torch.testing.assert_close(first, second)
    else:
        torch.testing.assert_close(there, net(x, topology)[order])


def test_bundle_with_appended_coordinates_equals_the_blocks_apart():
    topology, x = graph(3)
    net = network(maps="bundle", lowpass=True, highpass=True, layers=1)
    section = net.encode(x, topology)
    whole = net.laplacian(section, topology)
    out = whole(section)
    torch.testing.assert_close(out[:, :2], whole.main(section[:, :2]))
    torch.testing.assert_close(out[:, 2:], whole.fixed(section[:, 2:]))
    diagonal = network(maps="identity", stalk=1, lowpass=True, highpass=True, layers=1)
    assert diagonal.config.width == 3


@pytest.mark.parametrize("channels", [True, False])
def test_mixing_at_once_is_mixing_in_turn(channels, monkeypatch):
    torch.manual_seed(0)
    layer = SheafLayer(SheafConfig(stalk=3, hidden=5, mix_channels=channels)).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x, goal = torch.randn(2, 7, 3, 5, dtype=torch.double)
    used = [p for p in (layer.stalks, layer.channels) if p is not None]

    def both():
        y = layer.mix(x)
        return [y, *torch.autograd.grad((y * goal).sum(), [p.weight for p in used])]

    at_once = both()
    monkeypatch.setattr("graphdiff.graph.sheaf.network.AT_ONCE", 0)
    for a, b in zip(at_once, both(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("maps", SHEAVES)
@pytest.mark.parametrize("filter", ["diffusion", "chebyshev"])
def test_every_parameter_gets_a_gradient(maps, filter):
    topology, x = graph(4)
    net = network(maps=maps, filter=filter, encoder_layers=2, adjacency=3, norm=True)
    net(x, topology).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_no_layers_is_an_mlp_that_no_edge_reaches():
    topology, x = graph(5)
    net = network(layers=0)
    other, _ = graph(6)
    torch.testing.assert_close(net(x, topology), net(x, other))


def test_maps_per_layer_or_once():
    assert len(network(per_layer=False, layers=3).learners) == 1
    assert len(network(per_layer=True, layers=3).learners) == 3
    assert not network(maps="identity").map_parameters()
    topology, x = graph(7)
    once = network(per_layer=False, layers=2)
    calls = []
    inner = once.learners[0].forward
    once.learners[0].forward = lambda *a: calls.append(1) or inner(*a)
    once(x, topology)
    assert len(calls) == 1


def test_adjacency_embedding_is_of_one_graph():
    topology, x = graph(8)
    with pytest.raises(ArgumentError, match="give `nodes`"):
        SheafNetwork(SheafConfig(adjacency=4), F, C)
    net = SheafNetwork(SheafConfig(adjacency=4), F, C, N + 1).double()
    with pytest.raises(ArgumentError, match="found a graph of 13"):
        net(x, topology)


@pytest.mark.parametrize(
    ("key", "value"),
    [("stalk", 0), ("hidden", 0), ("layers", -1), ("degree", 0), ("dropout", 1.0),
     ("input_dropout", -0.1), ("adjacency", -1)],
)  # fmt: skip
def test_wrong_settings_name_their_key(key, value):
    with pytest.raises(ConfigError, match=f"network.{key}"):
        SheafConfig(**{key: value})


def test_connection_takes_no_appended_coordinates():
    with pytest.raises(ConfigError, match="connection"):
        SheafConfig(maps="connection", lowpass=True)


def test_sheaf_separates_where_averaging_cannot():
    """Bodnar et al., proposition 11: a bipartite graph whose sides are the classes.

    Diffusion over the graph Laplacian (h = D - A, one coordinate) ends in features that both sides
    share; over the sheaf with the sign -1 on one side of each edge it ends with opposite signs.
    """
    side = torch.arange(10) % 2
    edges = torch.tensor(
        [[i, j] for i in range(10) for j in range(i + 1, 10) if side[i] != side[j]]
    )
    topology = Topology.of(edges.T, 10)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((10, 1, 1)))
    from graphdiff.graph.sheaf import SheafLaplacian

    trivial = torch.ones(topology.entries, 1, dtype=torch.float64)
    signed = torch.where(side[topology.v] == 1, -1.0, 1.0).double()[:, None]
    ends = {}
    for name, maps in (("trivial", trivial), ("signed", signed)):
        laplacian = SheafLaplacian.diagonal(topology, maps, augmented=False)
        ends[name] = heat(laplacian, x, 200.0)[:, 0, 0]
        assert float(laplacian.energy(ends[name][:, None, None])) < 1e-6
    sides = [ends["signed"][side == k] for k in (0, 1)]
    assert (sides[0].sign() == sides[0][0].sign()).all()
    assert (sides[1].sign() == -sides[0][0].sign()).all()
    assert (ends["trivial"].sign() == ends["trivial"][0].sign()).all()


def test_diffusion_lowers_the_energy_and_keeps_the_global_sections():
    topology, x = graph(9)
    net = network(maps="general", layers=1)
    section = net.encode(x, topology)
    laplacian = net.laplacian(section, topology).main
    energies = [
        float(laplacian.energy(heat(laplacian, section, t)).detach()) for t in (0, 0.5, 1, 2, 4)
    ]
    assert all(a > b for a, b in itertools.pairwise(energies))


@pytest.mark.parametrize("t", [0.0, 0.3, 5.0, 80.0])
def test_heat_is_the_matrix_exponential(t):
    topology, x = graph(10)
    net = network(maps="bundle", layers=1)
    section = net.encode(x, topology).detach()
    laplacian = net.laplacian(section, topology).main
    exact = torch.linalg.matrix_exp(-t * laplacian.dense().detach()) @ section.reshape(N * 2, 4)
    found = heat(laplacian, section, t, 1e-9).reshape(N * 2, 4).detach()
    scale = float(section.norm())
    assert float((found - exact).norm()) < 1e-8 * scale


def test_heat_terms_keep_their_promise_and_no_more():
    grid = np.linspace(-1, 1, 201)
    for t in (0.1, 1.0, 10.0, 60.0):
        for tolerance in (1e-3, 1e-6, 1e-10):
            terms = heat_terms(t, tolerance)
            error = np.abs(np.polynomial.chebyshev.chebval(grid, terms) - np.exp(-t * (1 + grid)))
            assert error.max() < tolerance
    assert len(heat_terms(100.0, 1e-6)) < 180
    with pytest.raises(ArgumentError, match="time >= 0"):
        heat_terms(-1.0)


def test_ode_of_linear_maps_is_the_heat_equation():
    """Without activation and mixing, on a fixed sheaf, dopri5 and the series agree."""
    pytest.importorskip("torchdiffeq")
    topology, x = graph(11)
    plain = {"maps": "identity", "activation": False, "mix_stalks": False, "mix_channels": False}
    config = SheafConfig(stalk=2, hidden=4, dropout=0.0, **plain)
    answers = []
    for method in ("heat", "dopri5"):
        torch.manual_seed(1)
        net = SheafODE(config, F, C, time=1.7, method=method, tolerance=1e-9).double().eval()
        answers.append(net(x, topology))
        assert net.evaluations > 0
    torch.testing.assert_close(*answers, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_ode_orders_of_convergence(method, order):
    pytest.importorskip("torchdiffeq")
    topology, x = graph(12)
    torch.manual_seed(2)
    base = SheafODE(
        SheafConfig(stalk=2, hidden=4, dropout=0.0), F, C, time=1.0, method="dopri5",
        tolerance=1e-11,
    ).double().eval()  # fmt: skip
    exact = base(x, topology)
    errors = []
    # ELU has a kink in its second derivative: the order shows before that of the kink does.
    for steps in (4, 8, 16):
        base.method, base.steps = method, steps
        errors.append(float((base(x, topology) - exact).norm()))
    slope = np.polyfit(np.log([4, 8, 16]), np.log(errors), 1)[0]
    assert -slope > order - 0.5 if order < 4 else -slope > 2.5


def test_one_euler_step_is_a_layer_without_its_gate():
    pytest.importorskip("torchdiffeq")
    topology, x = graph(13)
    torch.manual_seed(4)
    config = SheafConfig(stalk=2, hidden=4, dropout=0.0)
    net = SheafODE(config, F, C, time=1.0, method="euler", steps=1).double().eval()
    section = net.network.encode(x, topology)
    layer = net.network.layers[0]
    wanted = layer(section, net.network.laplacian(section, topology))
    torch.testing.assert_close(net.flow(section, x, topology), wanted)


def test_ode_refuses_what_it_does_not_know():
    for wrong in ({"method": "magic"}, {"time": 0.0}, {"steps": 0}):
        with pytest.raises(ArgumentError):
            SheafODE(SheafConfig(), F, C, **wrong)


def test_layers_count_their_products():
    """Work of a layer: one product for diffusion, K for a polynomial, whatever the graph."""
    topology, x = graph(14)
    for filter, products in (("diffusion", 1), ("chebyshev", 5)):
        net = network(maps="diagonal", filter=filter, degree=5, layers=1)
        section = net.encode(x, topology)
        laplacian = net.laplacian(section, topology)
        calls = []
        net.layers[0](section, lambda y, a=laplacian, c=calls: c.append(1) or a(y))
        assert len(calls) == products


def test_config_replaces():
    assert replace(SheafConfig(), stalk=4).width == 4


def test_a_connection_belongs_to_its_features():
    """Two feature sets on one graph: the transports of the first are not those of the second."""
    topology, x = graph(15)
    net = network(maps="connection")
    other = torch.cos(3 * x)
    answers = [net.fixed(y, topology).main.dense() for y in (x, other, x)]
    fresh = Topology.of(torch.stack([topology.v, topology.u])[:, topology.v < topology.u], N)
    torch.testing.assert_close(answers[1], net.fixed(other, fresh).main.dense())
    torch.testing.assert_close(answers[2], answers[0])
    assert not torch.allclose(answers[0], answers[1])
