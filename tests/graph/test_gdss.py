"""GDSS as a task: loss, sampling, rounding, configurations, bad input."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gdss_support import config, noisy, plain, task
from torch import Tensor

from graphdiff.config import named_configs, resolve_config, split_config
from graphdiff.core.errors import ConfigError, DataError
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.data.graphs import Graphs
from graphdiff.graph.gdss import GDSSData, GDSSTask


def molecules() -> Graphs:
    """C-C, C=O and a ring of three with F."""
    return Graphs.from_lists(
        [2, 2, 4],
        [[(0, 1)], [(0, 1)], [(0, 1), (1, 2), (0, 2), (2, 3)]],
        [[0, 0], [0, 2], [0, 1, 0, 3]],
        [[1], [2], [1, 1, 1, 1]],
    )


def clean_state(n: int = 7) -> State:
    return GDSSData(molecules(), task(data={"nodes": n}).config).batch(torch.arange(3))


def test_loss_is_the_published_sum_over_full_matrices() -> None:
    """L = E 1/2 sum (sigma s + z)^2 over every entry, recomputed from scores and noise."""
    t_task = task(x={"kind": "VP", "high": 1.0})
    denoiser, clean = t_task.build(), clean_state()
    key = Key(5, clean.ids, step=9)
    found = t_task.losses(denoiser, clean, key)
    t = 1e-5 + (1 - 1e-5) * key.at(stream="time").uniform(1).squeeze(1)
    noisy_state = denoiser.process.corrupt(clean, t, key)
    raw = denoiser.net(noisy_state.values, t, clean.masks)
    for name, part in denoiser.process.parts.items():
        view = (-1, 1, 1)
        alpha, sigma = (
            s.float().view(view) for s in (part.schedule.alpha(t), part.schedule.sigma(t))
        )
        z = (noisy_state[name] - alpha * clean[name]) / sigma
        score = -raw[name] / sigma if name == "x" else raw[name]
        expected = 0.5 * (sigma * score + z).square().flatten(1).sum(1)
        torch.testing.assert_close(found[name], expected, rtol=2e-4, atol=1e-4)


def test_training_times_cover_the_clock() -> None:
    """The time stream is uniform: its deciles are hit as often as chance allows (chi-square)."""
    u = Key(1, torch.arange(20_000), step=4).at(stream="time").uniform(1).squeeze(1)
    counts = torch.histc(u, 10, 0, 1)
    assert float(((counts - 2000) ** 2 / 2000).sum()) < 27.9  # 99.9 % point of chi2 with 9 dof


def test_sizes_follow_the_histogram_and_the_id() -> None:
    t = task()
    sizes = t.sizes(torch.arange(21_000), 0)
    weights = torch.tensor([0, 0, 1, 2, 4, 8, 4, 2.0]) / 21
    counts = torch.bincount(sizes, minlength=8).double()
    assert counts[:2].sum() == 0
    expected = 21_000 * weights[2:]
    assert float(((counts[2:] - expected) ** 2 / expected).sum()) < 20.5  # chi2(5), 99.9 %
    assert torch.equal(t.sizes(torch.tensor([17, 5]), 0), sizes[[17, 5]])
    assert not torch.equal(t.sizes(torch.arange(100), 1), sizes[:100])


def sample(t_task: GDSSTask, ids: Tensor, **overrides: Any) -> State:
    sizes = t_task.sizes(ids, 0)
    template = t_task.template(ids, sizes, pad=7)
    return t_task.sampler(**overrides)(t_task.build(), template, seed=0)


@pytest.mark.parametrize(
    "overrides",
    [
        {"steps": 5},
        {"steps": 5, "published": False},
        {"steps": 5, "predictor": "euler"},
        {"steps": 5, "corrector": "none"},
        {"steps": 5, "solver": "s4"},
        {"steps": 5, "solver": "dpmpp", "end": 1e-3},
        {"steps": 5, "solver": "heun", "grid": "karras", "end": 1e-3},
        {"steps": 5, "solver": "unipc", "order": 3, "grid": "log_snr", "end": 1e-3},
        {"steps": 5, "solver": "ddim", "eta": 1.0},
        {"steps": 5, "solver": "ancestral"},
        {"steps": 5, "solver": "deis", "order": 3},
        {"steps": 5, "solver": "euler"},
        {"steps": 5, "solver": "dpmpp", "sde": True},
    ],
    ids=lambda o: "-".join(f"{v}" for k, v in o.items() if k != "steps") or "default",
)
def test_a_sample_depends_on_its_id_alone(overrides: dict[str, Any]) -> None:
    t_task = task()
    ids = torch.arange(6)
    whole = sample(t_task, ids, **overrides)
    part = sample(t_task, torch.tensor([4, 1]), **overrides)
    for name in ("x", "adj"):
        assert torch.isfinite(whole[name]).all()
        torch.testing.assert_close(part[name], whole[name][[4, 1]], rtol=1e-3, atol=1e-4)


def test_the_published_step_size_makes_batch_mates_matter() -> None:
    t_task = task()
    whole = sample(t_task, torch.arange(6), norm="batch")
    part = sample(t_task, torch.tensor([4, 1]), norm="batch")
    assert (part["x"] - whole["x"][[4, 1]]).abs().max() > 1e-3


def test_network_calls_are_what_the_solvers_need() -> None:
    t_task = task()
    calls = {"pc": 20, "s4": 10, "dpmpp": 10, "heun": 20, "ddim": 10, "unipc": 10}
    for solver, expected in calls.items():
        assert t_task.sampler(solver=solver, steps=10, end=1e-3).network_calls == expected
    assert t_task.sampler(steps=10, corrector="none").network_calls == 10


def test_the_published_sampler_equals_the_plain_loop() -> None:
    """All of it: tables, both Langevin steps from the old pair, last mean; same noise."""
    data = {"nodes": 9, "sizes": [0, 0, 0, 0, 0, 0, 1, 1, 2, 4]}
    shapes = {"layers": 3, "channels": [2, 8, 4], "hidden": 16, "attention": 16}
    t_task = task(data=data, model=shapes, sample={"steps": 6})
    denoiser, ids = t_task.build(), torch.arange(8)
    template = t_task.template(ids, t_task.sizes(ids, 0), pad=9)
    ours = t_task.sampler(norm="batch")(denoiser, template, seed=7)
    mask = template.mask("x")

    def noise(stage: int, name: str) -> Tensor:
        key = Key(7, ids, step=stage).at(stream=name)
        return denoiser.process.parts[name].space.normal(key, template[name].shape, mask)

    x, adj = plain().sample_qm9(
        denoiser.state_dict(), mask.float(), noise, low=0.1, high=1.0, steps=6, stop=6,
        snr=0.2, scale=0.7,
    )  # fmt: skip
    torch.testing.assert_close(ours["x"], x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours["adj"], adj, rtol=1e-4, atol=1e-4)


def test_rounding_of_molecules() -> None:
    t_task = task(data={"nodes": 4, "sizes": []})
    x = torch.zeros(1, 4, 4)
    x[0, 0, 0] = 0.6  # carbon
    x[0, 1, 2], x[0, 1, 3] = 0.7, 0.9  # two features above a half: the first, oxygen
    x[0, 2] = 0.4  # no feature above a half: no atom
    x[0, 3, 1] = 1.2  # nitrogen
    adj = torch.zeros(1, 4, 4)
    for i, j, value in ((0, 1, 1.5), (0, 3, 0.49), (1, 3, 7.0), (0, 2, 2.0)):
        adj[0, i, j] = adj[0, j, i] = value
    mask = torch.ones(1, 4, dtype=torch.bool)
    graph = t_task.quantise(State({"x": x, "adj": adj}, {"x": mask, "adj": mask}, torch.arange(1)))
    assert graph.num_nodes.tolist() == [3]
    assert graph.node_type is not None
    assert graph.node_type.tolist() == [0, 2, 1]
    assert graph.edges.tolist() == [[0, 1], [1, 2]]
    assert graph.edge_type is not None
    assert graph.edge_type.tolist() == [2, 3]


def test_rounding_of_plain_graphs_drops_isolated_nodes() -> None:
    t_task = task(data={"name": "grid", "atoms": [], "nodes": 4, "sizes": []})
    adj = torch.zeros(1, 4, 4)
    adj[0, 0, 2] = adj[0, 2, 0] = 0.51
    adj[0, 0, 1] = adj[0, 1, 0] = 0.49
    mask = torch.ones(1, 4, dtype=torch.bool)
    state = State(
        {"x": torch.zeros(1, 4, 4), "adj": adj}, {"x": mask, "adj": mask}, torch.arange(1)
    )
    graph = t_task.quantise(state)
    assert graph.num_nodes.tolist() == [2]
    assert graph.edges.tolist() == [[0, 1]]


def test_degrees_are_the_features_of_plain_graphs() -> None:
    star = Graphs.from_lists([4], [[(0, 1), (0, 2), (0, 3)]])
    t_task = task(data={"name": "grid", "atoms": [], "features": 3, "nodes": 5, "sizes": []})
    batch = GDSSData(star, t_task.config).batch(torch.tensor([0]))
    assert batch["x"][0].tolist() == [[0, 0, 1], [0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_training_lowers_the_loss_and_carries_the_sizes() -> None:
    t_task = task()
    denoiser = t_task.build()
    data = GDSSData(molecules(), t_task.config)
    assert t_task.prepared(data).config.data.sizes == (0, 0, 2, 0, 1, 0, 0, 0)
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=1e-2)
    index = torch.arange(3).repeat(20)

    def loss(step: int) -> Tensor:
        key = Key(0, torch.arange(60), step=step)
        losses = t_task.losses(denoiser, data.batch(index), key)
        return torch.stack([v.mean() for v in losses.values()]).sum()

    before = [float(loss(step).detach()) for step in range(1000, 1010)]
    for step in range(100):
        optimiser.zero_grad()
        loss(step).backward()
        optimiser.step()
    after = [float(loss(step).detach()) for step in range(1000, 1010)]
    # the same unseen noise before and after: what is left is the effect of training
    assert np.mean(after) < 0.9 * np.mean(before)


def test_initialisation_depends_on_the_seed_alone() -> None:
    torch.manual_seed(99)
    state = torch.get_rng_state()
    first, second, other = task().build(), task().build(), task(seed=4).build()
    assert torch.equal(torch.get_rng_state(), state)
    a, b, c = (torch.cat([p.flatten() for p in d.parameters()]) for d in (first, second, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


PUBLISHED = {
    # name: x and adj SDE, depth, layers, hidden, nodes, features, parameters of both networks
    # without the last edge layer's value weights, which nothing reads (research facts, GDSS repo)
    "gdss-qm9": ("VE", "VE", 2, 3, 16, 9, 4, 8_564),
    "gdss-zinc250k": ("VP", "VE", 2, 6, 16, 38, 9, 11_429),
    "gdss-zinc250k-gmh": ("VP", "VE", 2, 6, 16, 38, 9, None),
    "gdss-community-small": ("VP", "VP", 3, 5, 32, 20, 10, 72_434),
    "gdss-ego-small": ("VP", "VP", 2, 5, 32, 18, 17, 44_093),
    "gdss-enzymes": ("VP", "VE", 5, 7, 32, 125, 10, 182_066),
    "gdss-grid": ("VP", "VP", 5, 7, 32, 361, 5, 170_081),
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_named_configurations_have_the_published_shapes(name: str) -> None:
    assert name in named_configs()
    table, train = split_config(resolve_config(name))
    c = GDSSTask.from_config(table).config
    found = (
        c.x.kind,
        c.adj.kind,
        c.model.depth,
        c.model.layers,
        c.model.hidden,
        c.data.nodes,
        c.data.features,
    )
    assert found == PUBLISHED[name][:-1]
    assert train["clip"] == 1.0
    assert train["lr_gamma"] == 0.999
    net = GDSSTask.from_config(table).build().net
    if PUBLISHED[name][-1] is not None:
        assert sum(p.numel() for p in net.x.parameters()) == PUBLISHED[name][-1]


BAD = [
    ({"model": {"widht": 3}}, "model.widht"),
    ({"model": {"hidden": 7}}, "model.hidden"),
    ({"model": {"layers": 0}}, "model.layers"),
    ({"model": {"layers": 1, "channels": [2, 4, 3]}}, "model.channels"),
    ({"sample": {"solver": "magic"}}, "sample.solver"),
    ({"sample": {"snr": -1.0}}, "sample.snr"),
    ({"sample": {"grid": "karras"}}, "sample.grid"),
    ({"x": {"low": 2.0}}, "low"),
    ({"data": {"atoms": ["C"]}}, "data.features"),
    ({"data": {"sizes": [1] * 20}}, "data.sizes"),
    ({"data": {"nodes": "nine"}}, "data.nodes"),
    ({"t_min": 2.0}, "t_min"),
]


@pytest.mark.parametrize(("change", "named"), BAD, ids=[b[1] + str(i) for i, b in enumerate(BAD)])
def test_a_wrong_configuration_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        GDSSTask.from_config(config(**change))


def test_configuration_round_trip() -> None:
    t_task = task()
    assert GDSSTask.from_config(t_task.to_config()) == t_task


def test_overrides_are_checked() -> None:
    with pytest.raises(ConfigError, match="temperature"):
        task().sampler(temperature=2.0)
    with pytest.raises(ConfigError, match=r"sample\.steps"):
        task().sampler(steps=0)
    with pytest.raises(ConfigError, match=r"sample\.order"):
        task().sampler(solver="deis", order=9)


def test_bad_data_is_refused_by_name() -> None:
    c = task().config
    with pytest.raises(DataError, match="no graphs"):
        GDSSData(Graphs.empty(), c)
    with pytest.raises(DataError, match="maximum of 3"):
        GDSSData(molecules(), task(data={"nodes": 3, "sizes": [0, 1]}).config)
    with pytest.raises(DataError, match=r"node class 3.*features"):
        GDSSData(molecules(), task(data={"features": 3, "atoms": ["C", "N", "O"]}).config)
    with pytest.raises(ConfigError, match=r"data\.sizes"):
        task(data={"sizes": []}).sizes(torch.arange(2), 0)


def test_one_node_graphs_and_disconnected_graphs_train_and_sample() -> None:
    graphs = Graphs.from_lists([1, 4], [[], [(0, 1), (2, 3)]], [[0], [0, 1, 2, 3]], [[], [1, 2]])
    t_task = task()
    data = GDSSData(graphs, t_task.config)
    losses = t_task.losses(t_task.build(), data.batch(torch.arange(2)), Key(0, torch.arange(2)))
    assert all(math.isfinite(float(v.sum())) for v in losses.values())
    assert float(losses["adj"][0]) == 0  # one node has no pair
    template = t_task.template(torch.arange(2), torch.tensor([1, 4]), pad=4)
    out = t_task.sampler(steps=3)(t_task.build(), template, seed=0)
    assert all(torch.isfinite(out[name]).all() for name in ("x", "adj"))


def test_noisy_inputs_outside_the_data_range_stay_finite() -> None:
    """Negative degrees are clamped: no root of a negative number anywhere."""
    net = task().build().net
    x, adj, mask = noisy(20, 7, 4, seed=1)
    out = net({"x": 10 * x, "adj": 10 * adj}, torch.zeros(20), {"x": mask, "adj": mask})
    assert all(torch.isfinite(v).all() for v in out.values())


def test_the_default_sampler_of_a_model_can_be_changed(tmp_path: Path) -> None:
    from graphdiff.train.card import Card
    from graphdiff.train.checkpoint import read_card, save_model, update_card

    t_task = task()
    weights = t_task.build().state_dict()
    save_model(tmp_path / "m", weights, Card(kind="gdss", task=t_task.to_config()))
    update_card(tmp_path / "m", sample={"steps": 77, "norm": "schedule"}, notes="shorter")
    card = read_card(tmp_path / "m")
    assert GDSSTask.from_config(card.task).sampler().network_calls == 154
    assert card.notes == "shorter"
    with pytest.raises(ConfigError, match=r"sample\.steps"):
        update_card(tmp_path / "m", sample={"steps": 0})
    assert read_card(tmp_path / "m") == card
