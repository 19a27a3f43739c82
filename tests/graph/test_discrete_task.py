"""DiGress and DeFoG as tasks: losses, sampling from exact oracles, configurations, bad input."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from discrete_support import PAIR, PUBLISHED, config, molecules, task
from exact_discrete import ExactDiscrete, random_law, total_variation
from stats import accepted, chi2_pvalue, rejected
from torch import Tensor

from graphdiff.config import named_configs, resolve_config, split_config, validate
from graphdiff.core.errors import ArgumentError, ConfigError, DataError
from graphdiff.core.rng import Key
from graphdiff.core.space import Symmetric
from graphdiff.core.state import State
from graphdiff.core.times import distort_time
from graphdiff.data.graphs import Graphs
from graphdiff.graph.discrete import grouped, to_graphs
from graphdiff.graph.discrete_task import DiscreteGraphData, DiscreteGraphTask
from graphdiff.model import Model
from graphdiff.task import task_class
from graphdiff.train.card import Card
from graphdiff.train.config import TrainConfig


def few() -> Graphs:
    """C-C, C=O, a ring of three with F, and a chain of six: sizes 2, 2, 4, 6."""
    chain = [(i, i + 1) for i in range(5)]
    return Graphs.from_lists(
        [2, 2, 4, 6],
        [[(0, 1)], [(0, 1)], [(0, 1), (1, 2), (0, 2), (2, 3)], chain],
        [[0, 0], [0, 2], [0, 1, 0, 3], [0, 0, 1, 0, 0, 2]],
        [[1], [2], [1, 1, 1, 1], [1, 2, 1, 1, 1]],
    )


def plain() -> Graphs:
    """The same graphs without classes."""
    g = few()
    return Graphs(g.num_nodes, g.edge_ptr, g.edges)


# (kind, changes): every noise, both networks, both meanings of the output
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "defog": ("defog", {"loss": {"output": "bayes", "distortion": "polydec"}}),
    "defog molecules": ("defog", {"data": molecules(), "loss": {"edge": 3.0}}),
    "defog masks": ("defog", {"data": molecules(), "noise": {"kind": "absorbing"}}),
    "digress": ("digress", {"model": {**PUBLISHED, "features": "rrwp"}}),
    "digress molecules": (
        "digress",
        {"data": molecules(), "noise": {"kind": "uniform"}, "model": {**PUBLISHED, "layers": 1}},
    ),
}
every_model = pytest.mark.parametrize("name", MODELS)


def made(name: str, **more: Any) -> tuple[DiscreteGraphTask, DiscreteGraphData]:
    kind, changes = MODELS[name]
    out = task(kind, **{**changes, **more})
    return out, DiscreteGraphData(few() if out.config.data.atoms else plain(), out.config)


# -- losses ------------------------------------------------------------------------------------


def by_hand(t_task: DiscreteGraphTask, denoiser: Any, clean: State, key: Key) -> dict[str, Tensor]:
    """Cross-entropies of one graph at a time, token by token."""
    c, process = t_task.config, denoiser.process
    times = distort_time(key.at(stream="time").uniform(1).squeeze(1), c.loss.distortion)
    found: dict[str, list[Tensor]] = {name: [] for name in process.names}
    for k, n in enumerate(clean.masks["adj"].sum(1).tolist()):
        values = {m: v[k : k + 1, :n, :n] if m == "adj" else v[k : k + 1, :n]
                  for m, v in clean.values.items()}  # fmt: skip
        alone = State(values, {}, clean.ids[k : k + 1])
        t = times[k : k + 1]
        noisy = process.corrupt(alone, t, key.select([k]))
        raw = denoiser.net(noisy.values, t, {})
        for name, part in process.parts.items():
            logits, x0, x_t = raw[name][0].clone(), values[name][0], noisy[name][0]
            if c.loss.output == "bayes":
                a, pi = float(part.schedule.alpha(t)), torch.tensor(part.stationary)
                likelihood = a * torch.eye(len(pi)) + (1 - a) * pi  # [x0, x_t]
                logits = logits + likelihood.log().T[x_t]
            if c.noise.kind == "absorbing":
                logits[..., -1] = -math.inf
            error = -torch.log_softmax(logits, -1).gather(-1, x0.unsqueeze(-1)).squeeze(-1)
            keep = torch.ones_like(x0, dtype=torch.bool)
            if name == "adj":
                keep = keep.triu(1)
            if c.noise.kind == "absorbing":
                keep = keep & (x_t == logits.shape[-1] - 1)
            terms = error[keep]
            weight = c.loss.edge if name == "adj" else 1.0
            found[name].append(weight * terms.mean() if len(terms) else torch.zeros(()))
    return {name: torch.stack(v) for name, v in found.items()}


@every_model
def test_loss_is_the_mean_cross_entropy_of_each_graph(name: str) -> None:
    """Recomputed from noise and raw outputs; so neither padding nor grouping nor mates matter."""
    t_task, data = made(name)
    denoiser = t_task.build()
    index = torch.tensor([3, 0, 2, 1, 2, 3])
    clean = data.batch(index)
    key = Key(5, torch.arange(10, 16), step=9)
    with torch.no_grad():
        found = t_task.losses(denoiser, clean, key)
        expected = by_hand(t_task, denoiser, clean, key)
    assert found.keys() == expected.keys()
    for part, value in expected.items():
        # float32: networks of two layers agree to some 1e-6 between batch shapes
        torch.testing.assert_close(found[part], value, rtol=2e-4, atol=2e-5)
    assert float(found["adj"].std()) > 1e-3  # graphs differ, so a mix-up would show


@every_model
def test_more_padding_changes_no_loss(name: str) -> None:
    t_task, data = made(name)
    denoiser, clean = t_task.build(), data.batch(torch.arange(4))
    pad = torch.nn.functional.pad
    values = {m: pad(v, (0, 3, 0, 3) if m == "adj" else (0, 3)) for m, v in clean.values.items()}
    wide = State(values, {m: pad(v, (0, 3)) for m, v in clean.masks.items()}, clean.ids)
    key = Key(1, torch.arange(4), step=2)
    first, second = t_task.losses(denoiser, clean, key), t_task.losses(denoiser, wide, key)
    for part, value in first.items():
        assert torch.equal(second[part], value)  # trimmed to the same groups: the same bits


def test_groups_waste_little_and_keep_every_graph() -> None:
    _, data = made("defog molecules")
    clean = data.batch(torch.tensor([3, 0, 2, 1, 2, 3, 0]))
    sizes, seen = clean.masks["adj"].sum(1), []
    groups = grouped(clean)
    assert len(groups) > 1
    for index, state in groups:
        n = state["adj"].shape[1]
        seen += index.tolist()
        assert n == int(sizes[index].max())
        assert float(sizes[index].sum()) >= 0.8 * n * len(index)
        assert torch.equal(state["x"], clean["x"][index, :n])
        assert torch.equal(state["adj"], clean["adj"][index, :n, :n])
        assert torch.equal(state.masks["x"], clean.masks["x"][index, :n])
    assert sorted(seen) == list(range(7))


def test_one_node_graphs_train_and_sample() -> None:
    graphs = Graphs.from_lists([1, 3], [[], [(0, 2)]], [[1], [0, 1, 2]], [[], [3]])
    t_task = task(data=molecules())
    data = DiscreteGraphData(graphs, t_task.config)
    losses = t_task.losses(t_task.build(), data.batch(torch.arange(2)), Key(0, torch.arange(2)))
    assert all(bool(v.isfinite().all()) for v in losses.values())
    assert float(losses["adj"][0].detach()) == 0  # one node has no pair
    template = t_task.template(torch.arange(2), torch.tensor([1, 3]), pad=3)
    out = t_task.sampler(steps=2)(t_task.build(), template, seed=0)
    assert t_task.quantise(out).num_nodes.tolist() == [1, 3]


@pytest.mark.parametrize("name", ["defog molecules", "digress"])
def test_training_lowers_the_loss(name: str) -> None:
    """On the same unseen noise before and after; the first loss is that of an untaught network."""
    t_task, data = made(name)
    denoiser = t_task.build()
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=1e-2)
    clean = data.batch(torch.arange(4).repeat(8))

    def loss(step: int) -> Tensor:
        losses = t_task.losses(denoiser, clean, Key(0, torch.arange(32), step=step))
        return torch.stack([v.mean() for v in losses.values()]).sum()

    def unseen() -> float:
        with torch.no_grad():
            return float(np.mean([float(loss(step)) for step in range(1000, 1006)]))

    before = unseen()
    for step in range(60):
        optimiser.zero_grad()
        loss(step).backward()
        optimiser.step()
    assert unseen() < 0.75 * before


# -- facts of the data -------------------------------------------------------------------------


def test_prepared_carries_sizes_and_frequencies() -> None:
    t_task, data = made("defog molecules")
    facts = t_task.prepared(data).config.data
    assert facts.sizes == (0, 0, 2, 0, 1, 0, 1, 0)
    assert facts.node_probs == pytest.approx(np.array([9, 2, 2, 1]) / 14)
    # 1 + 1 + 6 + 15 pairs; 9 single bonds, 2 double ones, and a triple that counts once
    assert facts.edge_probs == pytest.approx(np.array([12, 9, 2, 1]) / 24)
    assert sum(facts.edge_probs) == pytest.approx(1, abs=1e-12)
    process = t_task.prepared(data).build().process
    assert process["adj"].stationary == pytest.approx(facts.edge_probs)
    assert process["x"].stationary == pytest.approx(facts.node_probs)


def test_plain_graphs_have_no_node_classes() -> None:
    t_task, data = made("defog")
    facts = t_task.prepared(data).config.data
    assert facts.node_probs == ()
    assert facts.edge_probs == pytest.approx((12 / 23, 11 / 23))
    assert set(data.batch(torch.arange(2)).values) == {"adj"}
    assert t_task.build().process.names == ("adj",)
    # Bond orders are refused unless the config has room for them.
    with pytest.raises(DataError, match=r"data\.bonds of at least 2"):
        DiscreteGraphData(few(), t_task.config)


def test_what_a_config_leaves_open_is_read_from_the_data() -> None:
    open_task = task(data={"nodes": 0, "bonds": 0, "sizes": [], "edge_probs": []})
    data = DiscreteGraphData(few(), open_task.config, atoms="CNOF")
    facts = open_task.prepared(data).config.data
    assert (facts.nodes, facts.bonds, facts.atoms) == (6, 2, ("C", "N", "O", "F"))
    assert facts.sizes == (0, 0, 2, 0, 1, 0, 1)
    assert facts.edge_probs == pytest.approx(np.array([12, 9, 2]) / 23)
    assert set(open_task.prepared(data).build().process.names) == {"adj", "x"}
    bare = open_task.prepared(DiscreteGraphData(plain(), open_task.config)).config.data
    assert (bare.nodes, bare.bonds, bare.atoms) == (6, 1, ())


def test_batches_are_the_graphs() -> None:
    _, data = made("defog molecules")
    state = data.batch(torch.tensor([2, 1]))
    assert state.ids.tolist() == [2, 1]
    assert state.masks["adj"].tolist() == [[True] * 4, [True, True, False, False]]
    assert state["x"].tolist() == [[0, 1, 0, 3], [0, 2, 0, 0]]
    assert state["adj"][1].tolist() == [[0, 2, 0, 0], [2, 0, 0, 0], [0] * 4, [0] * 4]
    back = to_graphs(data.batch(torch.arange(4)), 3, 4)
    assert back == few()


def test_sizes_follow_the_histogram_and_the_id() -> None:
    t_task = task()
    sizes = t_task.sizes(torch.arange(21_000), 0)
    weights = torch.tensor([0, 0, 1, 2, 4, 8, 4, 2.0]) / 21
    assert accepted(chi2_pvalue(torch.bincount(sizes, minlength=8), weights))
    assert rejected(chi2_pvalue(torch.bincount(sizes, minlength=8), weights.roll(1)))
    assert torch.equal(t_task.sizes(torch.tensor([17, 5]), 0), sizes[[17, 5]])
    assert not torch.equal(t_task.sizes(torch.arange(100), 1), sizes[:100])
    assert t_task.sizes(torch.arange(3), 0, size=4).tolist() == [4, 4, 4]
    assert t_task.sizes(torch.arange(3), 0, size=[4, 2, 7]).tolist() == [4, 2, 7]
    for wrong in (0, 8, [4, 2, 9]):
        with pytest.raises(ArgumentError, match="at most 7, as in training"):
            t_task.sizes(torch.arange(3), 0, size=wrong)


def test_bad_data_and_conditions_are_refused_by_name() -> None:
    c = task(data=molecules()).config
    with pytest.raises(DataError, match="no graphs"):
        DiscreteGraphData(Graphs.empty(), c)
    for change, named in (
        ({"nodes": 5, "sizes": []}, "nodes of at least 6"),
        ({"bonds": 1, "edge_probs": []}, "bonds of at least 2"),
        ({"atoms": ["C", "N", "O"], "node_probs": []}, "elements C, N, O, F"),
    ):
        with pytest.raises(DataError, match=named):
            DiscreteGraphData(few(), task(data=molecules(**change)).config, atoms="CNOF")
    with pytest.raises(ConfigError, match=r"data\.sizes"):
        task(data={"sizes": []}).sizes(torch.arange(2), 0)
    with pytest.raises(ConfigError, match=r"data\.edge_probs.*uniform"):
        task(data={"edge_probs": []}).build()
    with pytest.raises(ConfigError, match=r"no condition but size, found colour"):
        task().template(torch.arange(1), torch.tensor([2]), pad=2, colour=3)


# -- sampling ----------------------------------------------------------------------------------


def model(t_task: DiscreteGraphTask) -> Model:
    return Model("toy", t_task, t_task.build().eval(), Card(kind=t_task.kind, task={}))


@every_model
def test_a_sample_depends_on_its_id_alone(name: str) -> None:
    """The noise is the same; a rounding of the network could still flip a class, and does not."""
    toy = model(made(name)[0])
    whole = toy.samples(9, seed=4).raw
    assert toy.samples(9, seed=4).raw == whole
    assert toy.samples(9, seed=4, batch_size=2).raw == whole
    assert toy.samples(4, seed=4, start=5).raw == whole[5:]
    assert toy.samples(9, seed=5).raw != whole
    asked = toy.samples(5, seed=4, cond={"size": [7, 2, 3, 2, 5]})
    assert asked.raw.num_nodes.tolist() == [7, 2, 3, 2, 5]
    assert toy.samples(2, cond={"size": 6}).raw.num_nodes.tolist() == [6, 6]


SOLVERS: list[tuple[str, dict[str, Any]]] = [
    ("marginal", {"solver": "flow"}),
    ("marginal", {"solver": "flow", "eta": 20.0, "omega": 0.1, "distortion": "polydec"}),
    ("marginal", {"solver": "flow", "exact": False}),
    ("marginal", {"solver": "ancestral", "distortion": "cos"}),
    ("uniform", {"solver": "euler"}),
    ("uniform", {"solver": "tau", "distortion": "polyinc"}),
    ("absorbing", {"solver": "flow", "eta": 5.0}),
    ("absorbing", {"solver": "flow", "exact": False}),
    ("absorbing", {"solver": "ancestral"}),
    ("absorbing", {"solver": "euler", "distortion": "revcos"}),
    ("absorbing", {"solver": "remdm", "eta": 0.05}),
    ("absorbing", {"solver": "first_hitting"}),
]
every_solver = pytest.mark.parametrize(
    ("noise", "sample"), SOLVERS,
    ids=["-".join(map(str, (n, *s.values()))) for n, s in SOLVERS],
)  # fmt: skip


@every_solver
def test_one_call_a_step_and_no_mask_in_the_end(noise: str, sample: dict[str, Any]) -> None:
    t_task = task(data=molecules(), noise={"kind": noise}, model={**PAIR, "layers": 1})
    denoiser, ids = t_task.build(), torch.arange(8)
    times: list[float] = []

    def counted(state: State, t: Tensor, cond: Any = None) -> Mapping[str, Tensor]:
        times.append(float(t[0]))
        return denoiser(state, t, cond)

    sampler = t_task.sampler(steps=5, **sample)
    sizes = t_task.sizes(ids, 0)
    out = sampler(counted, t_task.template(ids, sizes, pad=7), seed=0)
    assert sampler.network_calls == len(times) == 5
    assert times[0] == 1.0
    assert all(a > b for a, b in itertools.pairwise(times))
    mask = torch.arange(7) < sizes[:, None]
    pair = mask[:, :, None] & mask[:, None, :] & ~torch.eye(7, dtype=torch.bool)
    assert int(out["x"].min()) >= 0
    assert int(out["x"].max()) < 4  # a mask would be 4
    assert int(out["adj"].max()) < 4
    assert bool((out["adj"][~pair] == 0).all())
    assert bool((out["x"][~mask] == 0).all())
    assert torch.equal(out["adj"], out["adj"].mT)
    assert t_task.quantise(out).num_nodes.tolist() == sizes.tolist()


LAW = random_law(2, 3, seed=11)
"""Of the three edges of a graph with three nodes, strongly correlated: far from a product."""


class Oracle:
    """The exact denoiser of :data:`LAW`, with the edges read as a string of three tokens.

    ``change`` spoils its logits ``[.., K]``, to see that a test notices.
    """

    def __init__(self, t_task: DiscreteGraphTask, change: Callable[[Tensor], Tensor]) -> None:
        process = t_task.sampler().process["adj"]
        table = torch.zeros(len(process.stationary) ** 3, dtype=torch.float64)
        for place, p in zip(itertools.product((0, 1), repeat=3), LAW, strict=True):
            table[sum(c * len(process.stationary) ** (2 - i) for i, c in enumerate(place))] = p
        self.exact = ExactDiscrete(process, table, 3)
        self.change, self.tables = change, {}

    def __call__(self, state: State, t: Tensor, cond: Any = None) -> dict[str, Tensor]:
        clock, classes = float(t[0]), self.exact.classes
        if clock not in self.tables:
            self.tables[clock] = self.change(self.exact.denoiser(clock).clamp(min=-80.0))
        code = Symmetric().gather(state["adj"]) @ torch.tensor([classes**2, classes, 1])
        picked = self.tables[clock][code]
        b = len(code)
        flat = picked.reshape(b, -1)
        return {"adj": Symmetric().scatter(flat, (b, 3, 3, classes))}


def oracle_task(kind: str, noise: str, sample: dict[str, Any], steps: int) -> DiscreteGraphTask:
    return task(
        kind, data={"nodes": 3, "sizes": [0, 0, 0, 1], "edge_probs": [0.7, 0.3]},
        noise={"kind": noise}, sample={"steps": steps, **sample},
    )  # fmt: skip


def drawn(t_task: DiscreteGraphTask) -> Tensor:
    """How often each of the eight graphs is drawn by the sampler of a task."""
    ids = torch.arange(80_000)
    template = t_task.template(ids, t_task.sizes(ids, 0), pad=3)
    out = t_task.sampler()(Oracle(t_task, keep), template, seed=1)
    edges = Symmetric().gather(out["adj"])
    return torch.bincount(edges @ torch.tensor([4, 2, 1]), minlength=8)


def law_of(t_task: DiscreteGraphTask, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The law of the eight graphs in the end: the sampler's kernels as matrices, no draws."""
    oracle, plan = Oracle(t_task, change), t_task.sampler().compile()
    exact, program = oracle.exact, plan.programs["adj"]
    ids = torch.arange(len(exact.law))
    adj = Symmetric().scatter(exact.states, (len(ids), 3, 3))
    state, key = State({"adj": adj}, {}, ids), Key(0, ids)
    law = exact.marginal(1.0)
    for i, t in enumerate(plan.times[:-1]):
        x0 = oracle(state, torch.tensor([t], dtype=torch.float64))["adj"]
        kernel, _ = program.update(i, 0, adj, x0, None, program.start(adj), key)
        probs = Symmetric().gather(kernel.mean).reshape(len(ids), 3, -1)
        law = law @ exact.product_kernel(probs)
    clean = (exact.states < 2).all(1)
    assert float(law[~clean].sum()) < 1e-12
    return law[clean]


def keep(logits: Tensor) -> Tensor:
    return logits


def five_percent(logits: Tensor) -> Tensor:
    """Odds of an edge 5 % too high."""
    return logits + torch.tensor([0.0, math.log(1.05), 0.0][: logits.shape[-1]])


METHODS: list[tuple[str, str, dict[str, Any]]] = [
    ("digress", "marginal", {}),
    ("digress", "uniform", {}),
    ("digress", "absorbing", {}),
    ("digress", "marginal", {"solver": "tau"}),
    ("defog", "marginal", {}),
    ("defog", "marginal", {"eta": 10.0, "distortion": "polydec"}),
    ("defog", "marginal", {"exact": False, "distortion": "polydec"}),
    ("defog", "uniform", {}),
    ("defog", "absorbing", {"distortion": "polydec"}),
]
every_method = pytest.mark.parametrize(
    ("kind", "noise", "sample"), METHODS,
    ids=["-".join(map(str, (k, n, *s.values()))) for k, n, s in METHODS],
)  # fmt: skip


@every_method
def test_exact_predictions_give_the_exact_law_as_steps_grow(
    kind: str, noise: str, sample: dict[str, Any]
) -> None:
    """The error that is left is of first order in the step; that of wrong odds stays."""

    def error(steps: int, change: Callable[[Tensor], Tensor] = keep) -> float:
        return total_variation(law_of(oracle_task(kind, noise, sample, steps), change), LAW)

    coarse, fine = error(32), error(128)
    assert fine < 0.006
    # A factor of four in the steps is one of four in the error: first order, and no other.
    assert 2.8 < coarse / fine < 5.7
    assert error(128, five_percent) > 0.009


@every_method
def test_draws_follow_the_law_of_the_chain(kind: str, noise: str, sample: dict[str, Any]) -> None:
    """80,000 graphs at eight steps against the kernels; neither the limit nor 5 % pass for it."""
    t_task = oracle_task(kind, noise, sample, 8)
    counts = drawn(t_task)
    assert accepted(chi2_pvalue(counts, law_of(t_task, keep)))
    assert rejected(chi2_pvalue(counts, law_of(t_task, five_percent)))
    assert rejected(chi2_pvalue(counts, LAW))


def test_first_hitting_is_exact_with_as_many_steps_as_pairs() -> None:
    sample = {"solver": "first_hitting"}
    exact, rough = (oracle_task("defog", "absorbing", sample, steps) for steps in (3, 1))
    assert accepted(chi2_pvalue(drawn(exact), LAW))
    assert rejected(chi2_pvalue(drawn(rough), LAW))


# -- results -----------------------------------------------------------------------------------


def test_molecules_come_out_as_molecules(tmp_path: Path) -> None:
    t_task, data = made("defog molecules")
    items, raw = t_task.decode(data.batch(torch.tensor([0, 1, 3])))
    from rdkit import Chem

    assert [Chem.MolToSmiles(m) for m in items] == ["CC", "C=O", "CC=NCCO"]
    assert raw == few()[[0, 1, 3]]
    toy = model(t_task)
    samples = toy.samples(6, seed=0)
    assert samples.raw.node_type is not None
    assert int(samples.raw.node_type.max()) < 4
    assert samples.raw.num_nodes.tolist() == t_task.sizes(torch.arange(6), 0).tolist()
    assert all(m is not None and Chem.SanitizeMol(m) == 0 for m in samples.items)
    names = {p.name for p in t_task.write(samples, tmp_path)}
    assert names == {"samples.npz", "samples.smi", "samples.sdf"}
    assert Graphs.load(tmp_path / "samples.npz") == samples.raw
    assert len(t_task.convert(samples, "smiles")) == 6


def test_plain_graphs_keep_isolated_nodes() -> None:
    t_task = task()
    adj = torch.zeros(2, 5, 5, dtype=torch.int64)
    adj[0, 0, 3] = adj[0, 3, 0] = 1
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    items, raw = t_task.decode(State({"adj": adj}, {"adj": mask}, torch.arange(2)))
    assert raw.num_nodes.tolist() == [5, 2]
    assert raw.edges.tolist() == [[0, 3]]
    assert [(len(g), g.number_of_edges()) for g in items] == [(5, 1), (2, 0)]


def test_a_class_that_is_still_masked_counts_as_none() -> None:
    adj = torch.tensor([[[0, 4, 2], [4, 0, 0], [2, 0, 0]]])
    graphs = to_graphs(
        State({"adj": adj, "x": torch.tensor([[3, 4, 1]])}, {}, torch.arange(1)), 3, 4
    )
    assert graphs.edges.tolist() == [[0, 2]]
    assert graphs.edge_type is not None
    assert graphs.edge_type.tolist() == [2]
    assert graphs.node_type is not None
    assert graphs.node_type.tolist() == [3, 0, 1]


# -- configurations ----------------------------------------------------------------------------

NAMED = [n for n in named_configs() if n.split("-")[0] in ("digress", "defog", "lggm")]


@pytest.mark.parametrize("name", NAMED)
def test_named_configurations_parse(name: str) -> None:
    table, train = split_config(resolve_config(name))
    t_task = task_class(table["kind"]).from_config(table)
    validate(TrainConfig, train, where="train")
    assert type(t_task).from_config(t_task.to_config()) == t_task
    if isinstance(t_task, DiscreteGraphTask):
        c = t_task.config
        assert c.noise.schedule == ("cosine" if t_task.kind == "digress" else "linear")
        assert c.sample.solver == ("ancestral" if t_task.kind == "digress" else "flow")
        atoms, bonds = len(c.data.atoms), max(c.data.bonds, 1)
        facts = {
            "node_probs": (1 / max(atoms, 1),) * atoms,
            "edge_probs": (1 / (bonds + 1),) * (bonds + 1),
        }
        known = replace(c, data=replace(c.data, bonds=bonds, **facts))
        assert type(t_task)(known).sampler().network_calls == c.sample.steps


PUBLISHED_SHAPES = {
    # layers, edge feed-forward, steps, distortion, eta, omega (DiGress and DeFoG repositories)
    "digress-qm9": (9, 128, 500, "identity", 0.0, 0.0),
    "digress-planar": (10, 64, 1000, "identity", 0.0, 0.0),
    "digress-comm20": (8, 64, 500, "identity", 0.0, 0.0),
    "defog-qm9-published": (9, 128, 500, "polydec", 0.0, 0.0),
    "defog-planar-published": (10, 64, 1000, "polydec", 50.0, 0.05),
}


@pytest.mark.parametrize("name", PUBLISHED_SHAPES)
def test_published_hyper_parameters(name: str) -> None:
    table, train = split_config(resolve_config(name))
    c = task_class(table["kind"]).from_config(table).config
    found = (c.model.layers, c.model.ff_e, c.sample.steps, c.sample.distortion, c.sample.eta,
             c.sample.omega)  # fmt: skip
    assert found == PUBLISHED_SHAPES[name]
    assert (c.model.dx, c.model.de, c.model.dy, c.model.heads) == (256, 64, 64, 8)
    assert (c.loss.edge, c.loss.output) == (5.0, "logits")
    assert (train["lr"], train["amsgrad"], train["weight_decay"]) == (2e-4, True, 1e-12)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"model": {**PAIR, "layerz": 3}}, "config.model.layerz"),
    ({"model": {**PAIR, "dx": 15}}, "model.dx"),
    ({"model": {**PAIR, "layers": 0}}, "model.layers"),
    ({"model": {**PAIR, "triangles": -1}}, "model.triangles"),
    ({"model": {**PUBLISHED, "heads": 3}}, "model.dx"),
    ({"model": {**PUBLISHED, "features": "magic"}}, "config.model"),
    ({"noise": {"kind": "gaussian"}}, "config.noise.kind"),
    ({"noise": {"schedul": "cosine"}}, "config.noise.schedul"),
    ({"loss": {"edge": 0.0}}, "loss.edge"),
    ({"loss": {"output": "bayess"}}, "config.loss.output"),
    ({"sample": {"solver": "magic"}}, "config.sample.solver"),
    ({"sample": {"steps": 0}}, "sample.steps"),
    ({"sample": {"eta": -1.0}}, "sample.eta"),
    ({"sample": {"omega": -0.1}}, "sample.omega"),
    ({"sample": {"solver": "remdm"}}, "noise.kind"),
    ({"noise": {"kind": "absorbing"}, "sample": {"solver": "remdm", "eta": 2.0}}, "sample.eta"),
    ({"data": {"atoms": ["C"]}}, "data.atoms"),
    ({"data": {"nodes": "nine"}}, "config.data.nodes"),
    ({"data": {"nodes": -1, "sizes": []}}, "data.nodes"),
    ({"data": {"bonds": -1, "edge_probs": []}}, "data.bonds"),
    ({"data": {"sizes": [1] * 20}}, "data.sizes"),
    ({"data": {"edge_probs": [1.0]}}, "data.edge_probs"),
    ({"data": {"node_probs": [0.5, 0.5]}}, "data.node_probs"),
    ({"sead": 3}, "config.sead"),
]


@pytest.mark.parametrize(("change", "named"), BAD, ids=[f"{b[1]} {i}" for i, b in enumerate(BAD)])
@pytest.mark.parametrize("kind", ["digress", "defog"])
def test_a_wrong_configuration_is_named(kind: str, change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        task(kind, **change)


def test_the_methods_differ_in_their_defaults() -> None:
    digress, defog = (task_class(k).from_config(config(k)).config for k in ("digress", "defog"))
    assert (digress.noise.schedule, digress.sample.solver) == ("cosine", "ancestral")
    assert (defog.noise.schedule, defog.sample.solver) == ("linear", "flow")
    other = task("digress", noise={"schedule": "linear"}, sample={"solver": "tau"}).config
    assert (other.noise.schedule, other.sample.solver) == ("linear", "tau")


def test_overrides_are_checked() -> None:
    with pytest.raises(ConfigError, match="temperature"):
        task().sampler(temperature=2.0)
    with pytest.raises(ConfigError, match=r"sample\.steps"):
        task().sampler(steps=0)
    with pytest.raises(ConfigError, match=r"sample\.eta"):
        task(noise={"kind": "absorbing"}).sampler(solver="remdm", eta=2.0)
    with pytest.raises(ArgumentError, match="FirstHitting"):
        task().sampler(solver="first_hitting").compile()
    assert task().sampler(steps=9).network_calls == 9


def test_initialisation_depends_on_the_seed_alone() -> None:
    torch.manual_seed(99)
    state = torch.get_rng_state()
    first, second, other = task().build(), task().build(), task(seed=4).build()
    assert torch.equal(torch.get_rng_state(), state)
    a, b, c = (torch.cat([p.flatten() for p in d.parameters()]) for d in (first, second, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
