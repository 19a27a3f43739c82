"""Sampling of the expansion model: growth, exact sizes, laws of small cases, batching, files."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from expansion_support import (
    accepted,
    chi2_pvalue,
    edge_array,
    level_of,
    packed_set,
    rejected,
    sequence,
    task,
)
from torch import Tensor

from graphdiff.config import named_configs, resolve_config, split_config
from graphdiff.core.categorical import Uniform
from graphdiff.core.errors import ArgumentError, ConfigError
from graphdiff.core.reveal import ConfidentJump
from graphdiff.core.rng import Key
from graphdiff.core.schedule import FlowMatching
from graphdiff.core.state import State
from graphdiff.data.graphs import Graphs
from graphdiff.graph.expansion.config import NetworkConfig
from graphdiff.graph.expansion.dataset import ExpansionData
from graphdiff.graph.expansion.keep import holds
from graphdiff.graph.expansion.level import Level, Packed
from graphdiff.graph.expansion.memory import batch_bytes, require_memory
from graphdiff.graph.expansion.sampler import (
    ExpansionSampler,
    _Coarse,
    _shift,
    _top,
    build_process,
    growth,
)
from graphdiff.graph.hspectre import HSpectreTask
from graphdiff.model import Model
from graphdiff.task import Chain
from graphdiff.train import TrainConfig, Trainer
from graphdiff.train.card import Card
from graphdiff.train.memory import available_bytes, kept_bytes


def test_growth_starts_at_one_ends_at_the_size_and_never_more_than_doubles() -> None:
    sizes = torch.tensor([1, 2, 3, 64, 5000])
    for low, high in ((0.1, 0.3), (0.5, 0.5), (0.01, 0.02)):
        plan = growth(sizes, Key(0, torch.arange(5)), low, high)
        assert (plan[:, 0] == 1).all()
        assert torch.equal(plan[:, -1], sizes)
        before, after = plan[:, :-1], plan[:, 1:]
        grows = before < sizes.unsqueeze(1)
        assert (after > before)[grows].all()
        assert (after <= 2 * before).all()
        # rounding moves a share by at most half a node
        large = grows & (after > 3)
        assert ((after - before)[large] <= (high * after[large] + 0.5).clamp(min=1)).all()
        assert ((after - before)[large] >= (low * after[large] - 0.5)).all()


def test_growth_depends_on_the_id_alone() -> None:
    sizes, ids = torch.tensor([900, 30, 700]), torch.tensor([4, 9, 2])
    together = growth(sizes, Key(3, ids), 0.1, 0.3)
    for i in range(3):
        alone = growth(sizes[i : i + 1], Key(3, ids[i : i + 1]), 0.1, 0.3)[0]
        assert torch.equal(together[i, : len(alone)], alone)
        assert (together[i, len(alone) :] == sizes[i]).all()
    assert not torch.equal(growth(sizes, Key(4, ids), 0.1, 0.3), together)


def test_the_shift_makes_the_expected_count() -> None:
    odds = torch.randn(50, 20, dtype=torch.float64) * 4
    hidden = torch.rand(50, 20) < 0.7
    left = (hidden.sum(1) * torch.rand(50)).long()
    shifted = torch.sigmoid(odds + _shift(odds, hidden, left).unsqueeze(1))
    got = torch.where(hidden, shifted, 0).sum(1)
    torch.testing.assert_close(got, left.double(), atol=1e-6, rtol=0)
    rows = _top(odds, left)
    assert torch.equal(rows.sum(1), left)


class Oracle:
    """A denoiser that answers the same logits always."""

    def __init__(self, e: Tensor, v: Tensor) -> None:
        self.process = build_process()
        self.e, self.v = e, v

    def __call__(self, state: State, t: Tensor, cond: Any) -> dict[str, Tensor]:
        b = state.batch_size
        out = {}
        for name, logits, mask in (("e", self.e, 15), ("v", self.v, 2)):
            x = state[name].unsqueeze(-1)
            classes = torch.arange(mask + 1)
            known = torch.where(classes == x, 0.0, -1e4)
            fresh = torch.cat([logits, torch.full((len(logits), 1), -1e4)], 1).expand(b, -1, -1)
            out[name] = torch.where(x == mask, fresh, known)
        return out


def chain(oracle: Oracle, level: Level, steps: int, seed: int) -> State:
    """The last state of one level."""
    sampler = ExpansionSampler(steps=steps)
    ids = torch.arange(len(level.counts))
    *_, last = sampler._level(oracle, level, ids, seed, 9)  # type: ignore[arg-type]
    return last.state


def fork(b: int, wanted: int) -> Level:
    """``b`` copies of an edge whose both ends have two children: one token, four new nodes."""
    edges = torch.tensor([[0, 1]]).repeat(b, 1)
    packed = Packed(torch.full((b,), 2), torch.arange(b), edges)
    counts = torch.full((b,), 4)
    return Level.build(packed, torch.ones(2 * b, dtype=torch.int64), counts * 3, counts + wanted)


@pytest.mark.parametrize("steps", [1, 5])
def test_tokens_follow_the_law_of_the_prediction(steps: int) -> None:
    """One token, fifteen classes: their frequencies are the softmax of the logits."""
    logits = torch.linspace(-1.5, 1.5, 15).unsqueeze(0)
    state = chain(Oracle(logits, torch.zeros(4, 2)), fork(6000, 2), steps, seed=steps)
    counts = torch.bincount(state["e"][:, 0], minlength=15)
    law = torch.softmax(logits[0], 0)
    assert accepted(chi2_pvalue(counts, law))
    assert rejected(chi2_pvalue(counts, torch.softmax(logits[0] * 1.1, 0)))


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_splits_are_exactly_as_many_as_wanted_and_fair(steps: int) -> None:
    """Equal odds: every pair of the four nodes is equally likely, however wrong the odds are."""
    odds = torch.tensor([[0.0, -3.0]]).expand(4, 2)  # the network expects far fewer than two
    state = chain(Oracle(torch.zeros(1, 15), odds), fork(6000, 2), steps, seed=1)
    assert (state["v"].sum(1) == 2).all()
    drawn = Counter(tuple(row.nonzero().flatten().tolist()) for row in state["v"])
    pairs = list(itertools.combinations(range(4), 2))
    counts = torch.tensor([drawn[p] for p in pairs])
    assert accepted(chi2_pvalue(counts, torch.ones(6)))
    favour = torch.tensor([[0.0, -2.0], *[[0.0, -3.0]] * 3])  # one node is likelier: seen
    state = chain(Oracle(torch.zeros(1, 15), favour), fork(6000, 2), steps, seed=1)
    drawn = Counter(tuple(row.nonzero().flatten().tolist()) for row in state["v"])
    assert rejected(chi2_pvalue(torch.tensor([drawn[p] for p in pairs]), torch.ones(6)))


@pytest.mark.parametrize("steps", [1, 3])
def test_the_order_of_confidence_keeps_the_law_of_a_token(steps: int) -> None:
    """One token has one order: its law is that of the prediction, in any number of steps."""
    logits = torch.linspace(-1.5, 1.5, 15).unsqueeze(0)
    oracle, level = Oracle(logits, torch.zeros(4, 2)), fork(6000, 2)
    sampler = ExpansionSampler(steps=steps, confident=True)
    *_, last = sampler._level(oracle, level, torch.arange(6000), 3, 9)  # type: ignore[arg-type]
    counts = torch.bincount(last.state["e"][:, 0], minlength=15)
    assert accepted(chi2_pvalue(counts, torch.softmax(logits[0], 0)))
    assert rejected(chi2_pvalue(counts, torch.softmax(logits[0] * 1.1, 0)))


def test_the_surest_tokens_are_revealed_first_a_fixed_number_each_step() -> None:
    process = build_process()["e"]
    program = ConfidentJump(jitter=0.0).compile(process, (1.0, 0.75, 0.5, 0.25, 0.0))
    x = torch.full((2, 6), 15)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    x0 = torch.zeros(2, 6, 16)
    x0[:, :, 3] = torch.tensor([0.0, 5.0, 1.0, 4.0, 2.0, 3.0])
    key, shown = Key(0, torch.arange(2), step=1), []
    best = [[1, 3, 5, 4, 2, 0], [1, 3, 2, 0]]
    for i in range(4):
        kernel, _ = program.update(i, 0, x, x0, mask, (), key.at(step=i + 1))
        x = kernel.sample(key.at(step=i + 1))
        shown.append(((x != 15) & mask).sum(1).tolist())
        for row, real, order in zip(x, mask, best, strict=True):
            seen = ((row != 15) & real).nonzero().flatten().tolist()
            assert set(seen) == set(order[: len(seen)])
    assert shown == [[2, 1], [4, 2], [5, 3], [6, 4]]
    with pytest.raises(ArgumentError, match="absorbing noise"):
        ConfidentJump().compile(Uniform(FlowMatching(), 3), (1.0, 0.0))
    with pytest.raises(ArgumentError, match="jitter"):
        ConfidentJump(-1.0).compile(process, (1.0, 0.0))


def test_levels_meet_different_noise() -> None:
    oracle, level = Oracle(torch.zeros(1, 15), torch.zeros(4, 2)), fork(400, 2)
    ids, sampler = torch.arange(400), ExpansionSampler(steps=2)
    draws = []
    for number in (9, 10):
        *_, last = sampler._level(oracle, level, ids, 0, number)  # type: ignore[arg-type]
        draws.append(last.state["e"][:, 0])
    same = float((draws[0] == draws[1]).float().mean())
    assert same < 0.2  # independent uniform classes agree once in fifteen; sd 0.0125


def grow(t_task: HSpectreTask, ids: Tensor, sizes: Tensor, **overrides: Any) -> list[nx.Graph]:
    template = t_task.template(ids, sizes, pad=int(sizes.max()))
    state = t_task.sampler(**overrides)(t_task.build().eval(), template, seed=7)
    items, raw = t_task.decode(state)
    raw.validate()
    return items


@pytest.mark.parametrize("modes", [0, 2])
def test_samples_have_the_size_asked_for_and_are_connected(modes: int) -> None:
    t_task = task(model={"modes": modes})
    sizes = torch.tensor([1, 2, 3, 7, 12, 12, 33])
    items = grow(t_task, torch.arange(7), sizes)
    assert [g.number_of_nodes() for g in items] == sizes.tolist()
    assert all(nx.is_connected(g) for g in items)


def test_a_sample_depends_on_its_id_alone() -> None:
    """The same graph, edge by edge, whatever shares its batch and wherever it stands there."""
    t_task, sizes = task(), torch.tensor([9, 20, 4, 15, 20])
    whole = grow(t_task, torch.arange(5), sizes)
    order = torch.tensor([3, 1])
    part = grow(t_task, order, sizes[order])
    for i, graph in zip(order.tolist(), part, strict=True):
        assert set(graph.edges) == set(whole[i].edges)
    other = grow(t_task, order + 100, sizes[order])
    assert set(other[1].edges) != set(whole[1].edges)


def test_the_sampler_is_a_chain_and_counts_its_calls() -> None:
    t_task, calls = task(), []
    sampler: Chain = t_task.sampler(steps=3)
    template = t_task.template(torch.arange(2), torch.tensor([12, 5]), pad=12)
    sampler(t_task.build().eval(), template, seed=0, on_step=lambda s: calls.append(s.calls))
    assert calls == list(range(1, len(calls) + 1))
    levels = growth(template["size"], Key(0, template.ids), 0.1, 0.3).shape[1] - 1
    assert len(calls) == 3 * levels
    assert sampler.network_calls >= 3


def test_memory_is_refused_before_it_is_taken() -> None:
    shape = NetworkConfig()
    with pytest.raises(ArgumentError, match=r"lower batch_size to \d+"):
        require_memory(torch.full((64,), 5000), 6.0, shape, limit=0.5)
    with pytest.raises(ArgumentError, match="smaller graphs"):
        require_memory(torch.tensor([10**9]), 6.0, shape, limit=1.0)
    assert require_memory(torch.tensor([64]), 2.0, shape) < available_bytes(torch.device("cpu"))
    one, two = (batch_bytes(n, 6.0, shape) for n in (2500, 5000))
    assert two == pytest.approx(2 * one)  # linear in the nodes
    assert two < 2**30  # far below the 8 GiB that 5,000 nodes may take
    t_task = task()
    template = t_task.template(torch.arange(9), torch.full((9,), 5000), pad=5000)
    with pytest.raises(ArgumentError, match="lower batch_size"):
        t_task.sampler(memory=0.2)(t_task.build(), template, seed=0)


@pytest.mark.parametrize("degree", [2.0, 6.0])
def test_the_estimate_for_training_is_that_of_what_autograd_keeps(degree: float) -> None:
    """Within a factor of two on trees and on triangulations, where its counts come from."""
    t_task, n = task(model={"hidden": 48, "pair": 32, "triangle": 16, "layers": 3}), 300
    graph = nx.random_labeled_tree(n, seed=0) if degree == 2 else triangulation(n)
    data = ExpansionData(Graphs.from_networkx([graph]), t_task.config.coarsening)
    clean = data.batch(torch.tensor([len(data) - 1]))
    denoiser, key = t_task.build(), Key(0, clean.ids, step=1)
    kept = kept_bytes(denoiser.net, lambda _: t_task.losses(denoiser, clean, key))
    ready = HSpectreTask(t_task.config.with_facts(data.sizes, data.degree))
    assert data.degree == pytest.approx(degree, rel=0.05)
    need = ready.memory(1, training=True)
    assert need is not None
    assert 0.5 * kept < need < 2 * kept


def triangulation(n: int) -> nx.Graph:
    """The Delaunay triangulation of ``n`` random points."""
    from scipy.spatial import Delaunay

    corners = Delaunay(np.random.default_rng(0).random((n, 2))).simplices
    graph = nx.empty_graph(n)
    graph.add_edges_from((int(t[i]), int(t[i - 1])) for t in corners for i in range(3))
    return graph


def test_dense_pairs_of_5000_nodes_are_never_made() -> None:
    """The largest tensor of a level of 5,000 nodes is linear in its edges."""
    graph = nx.random_labeled_tree(1200, seed=0)
    step = sequence(graph)[-1]
    level, tokens, _ = level_of([step])
    held = [level.pairs, level.slots, level.modes, *(s.index for s in level.triangles)]
    assert max(x.numel() for x in held) < 20 * 1200
    assert level.refine(tokens).edges.shape == (1199, 2)


# -- as a task -----------------------------------------------------------------------------------


def test_trains_resumes_and_samples_as_every_task(tmp_path: Path) -> None:
    t_task = task(data={"sizes": []})
    data = ExpansionData(packed_set(), t_task.config.coarsening, fingerprint={"name": "toy"})
    how = {"batch_size": 16, "ema": 0.9, "checkpoint_every": 5}
    Trainer(t_task, TrainConfig(steps=10, **how), tmp_path / "whole", data).run()
    Trainer(t_task, TrainConfig(steps=5, **how), tmp_path / "cut", data).run()
    trainer = Trainer(t_task, TrainConfig(steps=10, **how), tmp_path / "cut", data)
    assert trainer.run().finished
    name = "checkpoints/step-000000010/ema.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    model = Model(
        "toy", trainer.task, trainer._live.denoiser.eval(), Card(kind="hspectre", task={})
    )
    samples = model.samples(5, seed=1)
    assert samples.info["network_calls"] > 0
    assert [g.number_of_nodes() for g in samples.items] == samples.raw.num_nodes.tolist()
    assert set(samples.raw.num_nodes.tolist()) <= set(packed_set().num_nodes.tolist())
    again = model.samples(5, seed=1, batch_size=1)
    assert again.raw == samples.raw
    asked = model.sample(2, cond={"size": 21}, as_="pyg")
    assert [g.num_nodes for g in asked] == [21, 21]
    assert {p.name for p in model.task.write(samples, tmp_path)} == {
        "samples.npz",
        "samples.graphml",
    }


BAD = [
    ({"model": {"widht": 3}}, "model.widht"),
    ({"model": {"layers": 0}}, "model.layers"),
    ({"model": {"dropout": 1.0}}, "model.dropout"),
    ({"sample": {"steps": 0}}, "sample.steps"),
    ({"sample": {"jitter": -1.0}}, "sample.jitter"),
    ({"coarsening": {"high": 0.7}}, "coarsening"),
    ({"coarsening": {"skip": 1.0}}, "coarsening.skip"),
    ({"data": {"sizes": [1, 2]}}, "data.sizes"),
]


@pytest.mark.parametrize(("change", "named"), BAD, ids=[named for _, named in BAD])
def test_a_wrong_configuration_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        task(**change)


def test_wrong_requests_are_named() -> None:
    t_task, ids = task(), torch.arange(2)
    with pytest.raises(ConfigError, match="temperature"):
        t_task.sampler(temperature=2.0)
    with pytest.raises(ConfigError, match="found colour"):
        t_task.sizes(ids, 0, colour=1)
    with pytest.raises(ArgumentError, match="at least 1"):
        t_task.sizes(ids, 0, size=[4, 0])
    with pytest.raises(ConfigError, match=r"data\.sizes"):
        task(data={"sizes": []}).sizes(ids, 0)


def test_configuration_round_trip_and_named_ones() -> None:
    assert HSpectreTask.from_config(task().to_config()) == task()
    names = [n for n in named_configs() if n.startswith("hspectre-")]
    assert {"hspectre-tree", "hspectre-planar", "hspectre-sbm", "hspectre-comm20"} <= set(names)
    for name in names:
        table, train = split_config(resolve_config(name))
        t_task = HSpectreTask.from_config(table)
        assert TrainConfig.from_config(train)
        size = sum(p.numel() for p in t_task.build().parameters())
        assert 100_000 < size < 350_000


def test_unknown_data_are_left_alone() -> None:
    assert task().prepared(SimpleNamespace()) == task()  # type: ignore[arg-type]


# -- properties that no level may lose -----------------------------------------------------------


def union_of(items: list[nx.Graph]) -> Packed:
    """Some graphs as one packed union."""
    counts = torch.tensor([g.number_of_nodes() for g in items])
    owner = torch.repeat_interleave(
        torch.arange(len(items)), torch.tensor([g.number_of_edges() for g in items])
    )
    edges = np.concatenate([edge_array(g) for g in items])
    return Packed(counts, owner, torch.from_numpy(edges))


def test_properties_are_those_of_networkx() -> None:
    items = [
        nx.complete_graph(4), nx.complete_graph(5), nx.complete_bipartite_graph(3, 3),
        nx.path_graph(6), nx.grid_2d_graph(4, 4), nx.petersen_graph(), nx.empty_graph(1),
    ]  # fmt: skip
    items = [nx.convert_node_labels_to_integers(g) for g in items]
    graphs = union_of(items)
    assert holds("planar", graphs).tolist() == [nx.check_planarity(g)[0] for g in items]
    assert holds("tree", graphs).tolist() == [nx.is_tree(g) for g in items]
    assert holds("any", graphs).all()


def test_joining_puts_every_graph_in_its_place() -> None:
    items = [nx.path_graph(3), nx.complete_graph(4), nx.empty_graph(1), nx.star_graph(4)]
    graphs = union_of(items)
    marks = torch.arange(int(graphs.counts.sum()))
    keep = torch.tensor([False, True, True, False])
    nodes = keep.repeat_interleave(graphs.counts)
    parts, places = [graphs.select(keep), graphs.select(~keep)], torch.tensor([1, 2, 0, 3])
    joined, order = Packed.join(parts, places, torch.cat([marks[nodes], marks[~nodes]]))
    assert torch.equal(joined.counts, graphs.counts)
    assert torch.equal(joined.owner, graphs.owner)
    assert torch.equal(joined.edges, graphs.edges)
    assert torch.equal(order, marks)


def test_a_property_is_kept_by_drawing_levels_again() -> None:
    """An untrained network makes some graphs that are not planar; kept, none is."""
    t_task, ids, sizes = task(), torch.arange(12), torch.full((12,), 24)
    plain = grow(t_task, ids, sizes)
    assert not all(nx.check_planarity(g)[0] for g in plain)
    kept = grow(t_task, ids, sizes, keep="planar", tries=400)
    assert all(nx.check_planarity(g)[0] and nx.is_connected(g) for g in kept)
    assert [g.number_of_nodes() for g in kept] == sizes.tolist()
    gone = grow(t_task, ids, sizes, keep="planar", tries=1)  # one try is the plain sampler
    assert [set(g.edges) for g in gone] == [set(g.edges) for g in plain]


def test_what_is_drawn_again_depends_on_the_id_alone() -> None:
    t_task, ids = task(), torch.tensor([5, 2, 9, 7])
    sizes = torch.tensor([14, 20, 9, 20])
    whole = grow(t_task, ids, sizes, keep="planar", tries=400)
    part = grow(t_task, ids[1:3], sizes[1:3], keep="planar", tries=400)
    assert [set(g.edges) for g in part] == [set(g.edges) for g in whole[1:3]]


def test_a_rejected_level_follows_the_conditional_law() -> None:
    """A token of an edge between two pairs: a tree is one of its four single candidates.

    Drawn again until it is one, it follows the law of the prediction given that it is one.
    """
    logits = torch.linspace(-1.0, 1.0, 15).unsqueeze(0)
    oracle = Oracle(logits, torch.zeros(4, 2))
    sampler, b = ExpansionSampler(steps=2, keep="tree", tries=200), 4000
    level = fork(b, 2)
    coarse = _Coarse(
        Packed(level.coarse_counts, level.owner, torch.tensor([[0, 1]]).repeat(b, 1)),
        torch.ones(2 * b, dtype=torch.int64), level.total, level.target, torch.arange(b),
    )  # fmt: skip
    graphs, split, calls = sampler._grow(oracle, coarse, 3, 9, 0, None)  # type: ignore[arg-type]
    assert (torch.bincount(graphs.owner) == 3).all()
    assert calls > 2
    assert (split.view(b, 4).sum(1) == 2).all()
    between = graphs.edges[(graphs.edges[:, 0] < 2) & (graphs.edges[:, 1] >= 2)]
    counts = torch.bincount(between[:, 0] * 2 + between[:, 1] - 2, minlength=4)
    single = torch.softmax(logits[0, [0, 1, 3, 7]], 0)
    assert accepted(chi2_pvalue(counts, single))
    assert rejected(chi2_pvalue(counts, torch.softmax(logits[0, [0, 1, 3, 7]] * 1.5, 0)))


def test_wrong_properties_are_named() -> None:
    with pytest.raises(ConfigError, match=r"sample\.keep"):
        task().sampler(keep="plannar")
    with pytest.raises(ConfigError, match=r"sample\.tries"):
        task().sampler(keep="planar", tries=0)
