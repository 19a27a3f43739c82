"""Memories and attention: against loops, and against the layers of PyG."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphdiff.core.errors import ConfigError
from graphdiff.graph.semba.config import SembaConfig
from graphdiff.graph.semba.memory import Clock, SignedTemporalMemory, State, routed
from graphdiff.graph.semba.net import RecentAttention, SembaNet
from graphdiff.graph.semba.stream import EventStream, Revealed
from graphdiff.graph.semba.synthetic import two_camps
from graphdiff.graph.semba.training import start_state

DIM = 6


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=shape), dtype=torch.float32)


@pytest.fixture
def memory() -> SignedTemporalMemory:
    torch.manual_seed(0)
    made = SignedTemporalMemory(DIM, time=4, scale=2.0)
    with torch.no_grad():
        made.clock.phase.copy_(noise(4, seed=9))
    return made


def state(n: int = 7) -> State:
    pending = (
        torch.tensor([0, 2, 0, 5]), torch.tensor([1, 0, 3, 2]),
        torch.tensor([2.0, -3.0, -1.0, 4.0]).double(),
        torch.tensor([10.0, 11.0, 13.0, 13.5]).double(),
    )  # fmt: skip
    last = torch.arange(2.0 * n).view(n, 2).double() / 4
    return State(noise(n, 2, DIM), last, pending, 4)


def test_balance_is_a_permutation_of_the_poles() -> None:
    m, sign = noise(5, 2, DIM), torch.tensor([1.0, -1, -1, 1, -1])
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    matrix = torch.stack([torch.eye(2) if s > 0 else swap for s in sign])
    assert torch.equal(routed(m, sign), matrix @ m)
    assert torch.equal(routed(routed(m, sign), sign), m)
    # A friend of an enemy is an enemy: two hops are one hop of the product of the signs.
    assert torch.equal(routed(routed(m, sign), sign.flip(0)), routed(m, sign * sign.flip(0)))


def test_update_equals_a_loop_over_events(memory) -> None:
    """Mean of the messages of a node, then its GRU, each pole for itself."""
    before = state()
    inbox: dict[int, list[torch.Tensor]] = {}
    u, v, w, t = before.pending
    for a, b, weight, when in zip(u.tolist(), v.tolist(), w.tolist(), t.tolist(), strict=True):
        s = 1 if weight > 0 else -1
        for me, you, role in ((a, b, -1.0), (b, a, 1.0)):
            gap = when - before.last[me, 0 if s > 0 else 1].item()
            clock = torch.cos(gap / 2.0 * memory.clock.rate + memory.clock.phase)
            rows = []
            for pole, p in enumerate((1, -1)):
                told = before.memory[you, pole if s > 0 else 1 - pole]
                plain = torch.tensor([np.log1p(abs(weight)), p * s, p, role], dtype=torch.float32)
                rows.append(torch.cat([before.memory[me, pole], told, plain, clock]))
            inbox.setdefault(me, []).append(torch.stack(rows))
    fresh = memory.apply_pending(before)
    assert fresh.nodes.tolist() == sorted(inbox)
    for node, row in zip(fresh.nodes.tolist(), fresh.rows, strict=True):
        wanted = memory.cell(torch.stack(inbox[node]).mean(0), before.memory[node])
        torch.testing.assert_close(row, wanted)


def test_commit_touches_only_the_nodes_of_the_batch(memory) -> None:
    before, kept = state(), state()
    fresh = memory.apply_pending(before)
    seen = Revealed(np.ones(1), np.array([4]), np.array([6]), np.array([1.0]), np.array([20.0]))
    after = memory.commit(before, fresh, seen)
    assert torch.equal(after.memory[[4, 6]], kept.memory[[4, 6]])
    assert torch.equal(after.memory[fresh.nodes], fresh.rows)
    assert not after.memory.requires_grad
    assert after.position == 5
    assert [x.item() for x in after.pending] == [4, 6, 1.0, 20.0]
    wanted = kept.last.clone()  # rows: positive, negative
    wanted[[0, 1], 0], wanted[[2, 5], 0] = 10.0, 13.5
    wanted[[2], 1], wanted[[0, 3], 1] = 11.0, 13.0
    assert torch.equal(after.last, wanted)


def test_nodes_with_pending_events_are_read_up_to_date(memory) -> None:
    before = state()
    fresh = memory.apply_pending(before)
    asked = torch.tensor([6, 0, 0, 4, 5])
    found = memory.gather(before, fresh, asked)
    place = {n: k for k, n in enumerate(fresh.nodes.tolist())}
    for row, node in zip(found, asked.tolist(), strict=True):
        assert torch.equal(row, fresh.rows[place[node]] if node in place else before.memory[node])
    empty = State.empty(3, DIM, 0.0)
    assert not memory.apply_pending(empty).nodes.numel()
    assert (memory.gather(empty, memory.apply_pending(empty), torch.tensor([2])) == 0).all()


def test_first_event_of_two_new_nodes_is_remembered_with_its_sign(memory) -> None:
    """Equal memories routed either way are equal: without its sign in the message it were lost."""
    rows = []
    for weight in (2.0, -2.0):
        new = State.empty(2, DIM, 0.0)
        new.pending = (
            torch.tensor([0]), torch.tensor([1]), torch.tensor([weight]).double(),
            torch.tensor([3.0]).double(),
        )  # fmt: skip
        rows.append(memory.apply_pending(new).rows)
    assert (rows[0] - rows[1]).abs().max() > 1e-2
    assert (rows[0][0, 0] - rows[0][0, 1]).abs().max() > 1e-2


def test_the_loss_reaches_messages_clock_and_cell() -> None:
    events, _ = two_camps(nodes=12, events=60, seed=1)
    net = SembaNet(SembaConfig(memory=8, out=8, heads=2, history=False, time=4))
    net.memory.clock.phase.data.fill_(0.7)
    first, now = start_state(net, EventStream(events)), None
    stream = iter(EventStream(events, batch=20))
    batch = next(stream)
    now = net.memory.commit(first, net.memory.apply_pending(first), batch.reveal(np.zeros(20)))
    batch = next(stream)
    net.attention.edge.weight.data.zero_()  # the clock is then felt through memories alone
    net(now, net.memory.apply_pending(now), batch.queries).sum().backward()
    for parameter in (net.memory.cell.weight_ih, net.memory.clock.phase, net.memory.clock.rate):
        assert parameter.grad.abs().max() > 1e-8


def test_clock() -> None:
    clock = Clock(5, scale=100.0)
    found = clock(torch.tensor([0.0, 50.0, 1e12], dtype=torch.float64))
    wanted = np.cos(np.outer([0, 0.5], 10.0 ** -np.linspace(0, 6, 5)))
    np.testing.assert_allclose(found[:2].detach(), wanted, atol=1e-6)
    assert torch.isfinite(found).all()


def test_attention_equals_the_transformer_convolution_of_pyg() -> None:
    from torch_geometric.nn import TransformerConv

    torch.manual_seed(2)
    ours = RecentAttention(DIM, 5, 8, heads=4, dropout=0.0)
    theirs = TransformerConv(2 * DIM, 2, heads=4, edge_dim=5)
    with torch.no_grad():
        for name, part, half in (
            ("skip", ours.own, 0), ("query", ours.own, 1), ("key", ours.other, 0),
            ("value", ours.other, 1),
        ):  # fmt: skip
            layer = getattr(theirs, f"lin_{name}")
            layer.weight.copy_(part.weight[8 * half : 8 * half + 8])
            layer.bias.copy_(part.bias[8 * half : 8 * half + 8])
        theirs.lin_edge.weight.copy_(ours.edge.weight)
    there = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]]).bool()
    h, near, edge = noise(3, 2 * DIM), noise(3, 3, 2 * DIM, seed=1), noise(3, 3, 5, seed=2)
    row, col = there.nonzero(as_tuple=True)
    x = torch.cat([h, near[row, col]])
    index = torch.stack([3 + torch.arange(len(row)), row])
    wanted = theirs(x, index, edge[row, col])[:3]
    place = torch.arange(9).view(3, 3)
    torch.testing.assert_close(ours(h, near.flatten(0, 1), place, edge, there), wanted)


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"task": "signs"}, "task: found 'signs'"),
        ({"heads": 5}, "a divisor of out=64"),
        ({"memory": 0}, "memory: found 0, expected 1 or more"),
        ({"dropout": 1.0}, "dropout"),
        ({"lr": 0.0}, "lr: found"),
        ({"online": -1.0}, "online"),
        ({"task": "weight", "balance": True}, "weights have no classes"),
    ],
)
def test_bad_settings(setting, match) -> None:
    with pytest.raises(ConfigError, match=match):
        SembaConfig(**setting)
