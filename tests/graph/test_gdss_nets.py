"""The GDSS networks against a plain implementation, and their symmetries."""

from __future__ import annotations

import pytest
import torch
from gdss_support import noisy, plain, task
from torch import Tensor

from graphdiff.graph.nets import pairs
from graphdiff.graph.nets.gdss import _ELU, GDSSNetwork


def run(net: GDSSNetwork, x: Tensor, adj: Tensor, mask: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        return net({"x": x, "adj": adj}, torch.zeros(len(x)), {"x": mask, "adj": mask})


def network(**model: object) -> GDSSNetwork:
    net = task(model=model).build().net
    with torch.no_grad():  # biases start at zero; a wrong place for them would not show
        for k, p in enumerate(net.parameters()):
            if p.abs().sum() == 0:
                p.copy_(0.3 * torch.sin(torch.arange(p.numel()) + k).view(p.shape))
    return net


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("linears", [1, 2, 3])
@pytest.mark.parametrize("channels", [(1, 3, 3), (2, 4, 3), (3, 2, 5)])
def test_edge_network_equals_the_plain_one(
    depth: int, linears: int, channels: tuple[int, int, int]
) -> None:
    if depth == 1:  # the published first layer ends in c_hid channels, whatever comes after
        channels = (channels[0], channels[1], channels[1])
    net = network(layers=depth, linears=linears, channels=list(channels))
    x, adj, mask = noisy(12, 7, 4)
    weights = net.adj.state_dict()
    expected = plain().edge_score(x, adj, mask.float(), weights, depth, 4, channels[0])
    torch.testing.assert_close(run(net, x, adj, mask)["adj"], expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_node_network_equals_the_plain_one(depth: int) -> None:
    net = network(depth=depth)
    x, adj, mask = noisy(12, 7, 4)
    expected = plain().node_score(x, adj, mask.float(), net.x.state_dict(), depth)
    torch.testing.assert_close(run(net, x, adj, mask)["x"], expected, rtol=1e-4, atol=1e-5)


def test_attention_node_network_equals_the_plain_one() -> None:
    net = network(node="gmh", depth=3)
    x, adj, mask = noisy(12, 7, 4)
    reference, weights, flags = plain(), net.x.state_dict(), mask.float()
    channels = torch.stack([adj, adj @ adj], -1)
    h, states = x, [x]
    for k in range(3):
        last = k == 2  # the last layer's edges are not read, and not computed here
        name = f"layers.{k}"
        w = dict(weights)
        if last:
            w |= {f"{name}.{p}": torch.zeros(4, 8, 8) for p in ("query", "key")}
            w |= {f"{name}.{p}_bias": torch.zeros(4, 8) for p in ("query", "key")}
            w |= {f"{name}.edge_mlp.layers.0.weight": torch.zeros(3, 8)}
            w |= {f"{name}.edge_mlp.layers.0.bias": torch.zeros(3)}
        h, channels = reference.attention_layer(h, channels, flags, w, name, 4)
        h = torch.tanh(h)
        states.append(h)
    expected = reference.mlp(torch.cat(states, -1), weights, "final") * flags[:, :, None]
    torch.testing.assert_close(run(net, x, adj, mask)["x"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("node", ["gcn", "gmh"])
def test_permuting_the_nodes_permutes_the_answer(node: str) -> None:
    net = network(node=node)
    x, adj, _ = noisy(6, 7, 4)
    mask = torch.ones(6, 7, dtype=torch.bool)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    first = run(net, x, adj, mask)
    second = run(net, x[:, order], adj[:, order][:, :, order], mask)
    torch.testing.assert_close(second["x"], first["x"][:, order], rtol=1e-4, atol=1e-5)
    permuted = first["adj"][:, order][:, :, order]
    torch.testing.assert_close(second["adj"], permuted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("node", ["gcn", "gmh"])
def test_padding_and_batch_mates_change_nothing(node: str) -> None:
    net = network(node=node)
    x, adj, mask = noisy(7, 7, 4)
    whole = run(net, x, adj, mask)
    for k in range(7):
        n = k + 1
        alone = run(net, x[k : k + 1, :n], adj[k : k + 1, :n, :n], mask[k : k + 1, :n])
        torch.testing.assert_close(alone["x"][0], whole["x"][k, :n], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone["adj"][0], whole["adj"][k, :n, :n], rtol=1e-4, atol=1e-5)
        assert whole["x"][k, n:].abs().sum() == 0
        assert whole["adj"][k, n:].abs().sum() == 0


def test_edges_are_symmetric_without_diagonal() -> None:
    x, adj, mask = noisy(5, 7, 4)
    out = run(network(), x, adj, mask)["adj"]
    assert torch.equal(out, out.mT)
    assert out.diagonal(dim1=1, dim2=2).abs().sum() == 0


@pytest.mark.parametrize("n", [3, pairs.SMALL + 1])
def test_contractions_equal_einsum_and_have_its_gradient(n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, h = (
        torch.randn(2, 3, n, 2, dtype=torch.float64, generator=generator, requires_grad=True)
        for _ in range(3)
    )
    s = pairs.outer(q, k)
    assert torch.allclose(s, torch.einsum("gdib,gdjb->gijb", q, k))
    out = pairs.spread(s, h)
    assert torch.allclose(out, torch.einsum("gijb,gdjb->gdib", s, h))
    if n == 3:
        assert torch.autograd.gradcheck(
            lambda *a: pairs.spread(pairs.outer(*a[:2]), a[2]), (q, k, h)
        )


def test_elu_gradient() -> None:
    x = torch.linspace(-3, 3, 12, dtype=torch.float64).add(0.01).requires_grad_()
    assert torch.autograd.gradcheck(_ELU.apply, (x,))


def test_pairs_are_numbered_as_the_space_numbers_them() -> None:
    from graphdiff.core.space import Symmetric

    _, adj, _ = noisy(4, 6, 1)
    flat = pairs.to_pairs(adj)
    assert torch.equal(flat.t(), Symmetric().gather(adj))
    assert torch.equal(pairs.to_dense(flat.unsqueeze(0), 6, 0.0)[0].permute(2, 0, 1), adj)


def test_edge_work_is_done_once_a_pair() -> None:
    """Counted, not timed: the rows that reach the edge MLPs are n(n-1)/2 a graph, not n^2."""
    rows = []
    net = network()
    net.adj.final.register_forward_hook(lambda module, inputs, out: rows.append(inputs[0].shape[1]))
    x, adj, mask = noisy(5, 7, 4)
    run(net, x, adj, mask)
    assert rows == [5 * 7 * 6 // 2]
