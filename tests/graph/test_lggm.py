"""LGGM: shares of domains, prompts as vectors, node counts and conditions, guidance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from discrete_support import PAIR

import graphdiff
from graphdiff.config import resolve_config, split_config
from graphdiff.core.errors import ArgumentError, ConfigError, DataError
from graphdiff.core.guidance import ClassifierFree
from graphdiff.core.rng import Key
from graphdiff.data.corpus import Corpus
from graphdiff.data.corpus.statistics import average_degree, clustering
from graphdiff.data.graphs import Graphs
from graphdiff.graph.lggm import LggmTask
from graphdiff.graph.lggm_config import CorpusData
from graphdiff.graph.lggm_data import CorpusGraphs, nearest_domain, prompt_bank
from graphdiff.graph.nets.prompted import Prompted
from graphdiff.graph.prompts import KINDS, Meaning, Terciles, variants
from graphdiff.graph.text import embed, make_encoder
from graphdiff.train import TrainConfig, Trainer

NAMES = ("eco", "power", "socfb")
SHARES = (4, 6, 2)  # graphs of each domain
SIZES = {"eco": {7}, "power": {4, 5}, "socfb": {8, 9}}


def ring(n: int) -> list[tuple[int, int]]:
    return [(k, k + 1) for k in range(n - 1)] + [(0, n - 1)]


def path(n: int) -> list[tuple[int, int]]:
    return [(k, k + 1) for k in range(n - 1)]


def clique(n: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(n) for j in range(i + 1, n)]


def graphs() -> tuple[Graphs, np.ndarray]:
    """Four rings of 7, six paths of 4 and 5, two cliques of 8 and 9, and their domains."""
    sizes = [7, 7, 7, 7, 4, 5, 4, 5, 4, 5, 8, 9]
    domain = np.repeat(np.arange(3), SHARES)
    make = [ring, path, clique]
    found = Graphs.from_lists(
        sizes, [make[d](n) for n, d in zip(sizes, domain.tolist(), strict=True)]
    )
    return found, domain


def data() -> CorpusGraphs:
    found, domain = graphs()
    facts = average_degree(found), clustering(found)
    return CorpusGraphs(found, domain, NAMES, facts, nodes=9, fingerprint={"name": "small"})


def task(encoder: str = "word-vectors", **changes: Any) -> LggmTask:
    config = {
        "kind": "lggm", "seed": 1, "data": {"smallest": 4, "nodes": 9}, "model": PAIR,
        "sample": {"steps": 3}, "text": {"encoder": encoder, **changes},
    }  # fmt: skip
    return LggmTask.from_config(config).prepared(data())


# -- training graphs ---------------------------------------------------------------------------


def test_an_epoch_has_as_many_graphs_of_each_domain_and_misses_none() -> None:
    found = data()
    batch = found.batch(torch.arange(len(found)))
    assert len(found) == 3 * max(SHARES)
    assert torch.bincount(batch["domain"]).tolist() == [max(SHARES)] * 3
    packed, domain = graphs()
    for k, name in enumerate(NAMES):
        sizes = batch.masks["adj"][batch["domain"] == k].sum(1)
        wanted = packed.num_nodes[domain == k]
        assert set(sizes.tolist()) == set(wanted.tolist()) == SIZES[name]


def test_a_batch_holds_the_graph_its_domain_and_its_levels() -> None:
    found = data()
    packed, domain = graphs()
    batch = found.batch(torch.tensor([0, 1, 2, 5]))  # first of each domain, second clique
    rows = [0, 4, 10, 11]
    _, adj, real = packed.dense(rows)
    assert torch.equal(batch["adj"], torch.from_numpy(adj))
    assert torch.equal(batch.masks["adj"], torch.from_numpy(real))
    assert batch["domain"].tolist() == domain[rows].tolist()
    degree, triangles = average_degree(packed), clustering(packed)
    levels = Terciles.of(degree, triangles).levels(degree, triangles)
    assert batch["levels"].tolist() == levels[rows].tolist()
    # Paths are the sparsest third; cliques alone have triangles.
    assert batch["levels"][1].tolist() == [0, 0]
    assert batch["levels"][3].tolist() == [2, 2]


def test_facts_for_the_card() -> None:
    found = data()
    assert found.domains == NAMES
    assert [set(np.flatnonzero(row)) for row in found.sizes] == [SIZES[name] for name in NAMES]
    assert [sum(row) for row in found.sizes] == list(SHARES)
    # One third ring (7 of 21 pairs), one third paths (3 x 3 + 3 x 4 of 3 x 6 + 3 x 10), cliques.
    edge = (7 / 21 + 21 / 48 + 1) / 3
    assert found.edge_probs == pytest.approx((1 - edge, edge), abs=1e-12)  # rounding only


def corpus() -> Corpus:
    """Two domains: 40 rings, 20 of 5 and then 20 of 6 nodes; 3 paths."""
    sizes = [5] * 20 + [6] * 20 + [4] * 3
    edges = [ring(n) for n in sizes[:40]] + [path(4)] * 3
    packed = Graphs.from_lists(sizes, edges)
    return Corpus(
        "lggm", packed, {"train": np.arange(43)}, domains=("eco", "power"), networks=("a", "b"),
        domain=np.repeat([0, 1], [40, 3]), network=np.repeat([0, 1, 0], [20, 20, 3]),
        average_degree=average_degree(packed), clustering=clustering(packed),
    )  # fmt: skip


def test_limit_takes_a_random_part_of_each_domain() -> None:
    def chosen(limit: int) -> CorpusGraphs:
        return CorpusGraphs.of(corpus(), CorpusData(smallest=4, nodes=6, limit=limit))

    few = chosen(10)
    assert [sum(row) for row in few.sizes] == [10, 3]
    # The corpus is sorted by network; all ten from one of them has probability 5e-4.
    assert 0 < few.sizes[0][5] < 10
    assert [sum(row) for row in chosen(0).sizes] == [40, 3]
    assert chosen(10).fingerprint() == few.fingerprint() != chosen(11).fingerprint()


def test_no_graphs_is_an_error() -> None:
    with pytest.raises(DataError, match="holdout"):
        CorpusGraphs(Graphs.empty(), np.zeros(0, np.int64), NAMES, (np.zeros(0),) * 2, nodes=4)
    with pytest.raises(ConfigError, match="smallest"):
        CorpusData(smallest=9, nodes=8)
    with pytest.raises(ConfigError, match="limit"):
        CorpusData(limit=-1)


# -- prompts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawn_prompt_says_what_the_graph_is(kind: str) -> None:
    bank = prompt_bank("word-vectors", NAMES, 6)
    n = 200
    levels = np.random.default_rng(0).integers(3, size=(n, 2))
    domains = [NAMES[k % 3] for k in range(n)]
    key = Key(5, torch.arange(n))
    drawn = bank.draw(domains, levels, key, [kind])
    told = []
    for vector, domain, (degree, triangles) in zip(drawn, domains, levels.tolist(), strict=True):
        places = torch.nonzero((bank.vectors.float() == vector).all(1)).flatten().tolist()
        meanings = [m for m, (a, c) in bank.rows.items() if any(a <= p < a + c for p in places)]
        assert any(
            m.kind == kind
            and m.domain in (None, domain)
            and m.degree in (None, degree)
            and m.clustering in (None, triangles)
            for m in meanings
        )
        told += [m for m in meanings if m.kind == kind][:1]
    assert len(set(told)) > (2 if kind == "domain" else 9)
    # A graph's prompt depends on its own key only.
    assert torch.equal(
        drawn[7:9], bank.draw(domains[7:9], levels[7:9], Key(5, torch.arange(7, 9)), [kind])
    )


def test_prompts_are_nearest_to_the_domain_they_name() -> None:
    bank = prompt_bank("word-vectors", NAMES, 24)
    for name in NAMES:
        assert {nearest_domain(text, bank) for text in variants(Meaning(name))} == {name}
    assert nearest_domain("a power grid with low average degree", bank) == "power"
    assert nearest_domain("a graph with low average degree", bank) is None
    other = [(name, t) for name in NAMES for t in variants(Meaning(name), held_out=True)]
    right = sum(nearest_domain(text, bank) == name for name, text in other)
    assert right >= 0.75 * len(other)  # chance: a quarter
    with pytest.raises(ArgumentError, match="empty"):
        nearest_domain("  ", bank)


# -- node counts -------------------------------------------------------------------------------


def support(sizes: torch.Tensor) -> set[int]:
    return set(sizes.tolist())


def test_node_counts_follow_size_domain_or_prompt() -> None:
    lggm, ids = task(), torch.arange(64)
    assert support(lggm.sizes(ids, 0, size=6)) == {6}
    assert support(lggm.sizes(ids, 0, size=6, domain="power")) == {6}
    for name, sizes in SIZES.items():
        assert support(lggm.sizes(ids, 0, domain=name)) == sizes
        assert support(lggm.sizes(ids, 0, prompt=variants(Meaning(name))[0])) == sizes
        # The domain decides, not the prompt beside it.
        assert support(lggm.sizes(ids, 0, domain=name, prompt="a food web")) == sizes
    every = set().union(*SIZES.values())
    assert support(lggm.sizes(ids, 0)) == every
    assert support(lggm.sizes(ids, 0, prompt="a graph with few triangles")) == every


def test_each_sample_may_have_a_domain_of_its_own() -> None:
    lggm, ids = task(), torch.arange(60)
    each = [NAMES[k % 3] for k in range(60)]
    found = lggm.sizes(ids, 0, domain=each)
    for k, name in enumerate(NAMES):
        assert support(found[k::3]) <= SIZES[name]
        assert torch.equal(found[k::3], lggm.sizes(ids[k::3], 0, domain=name))


def test_bad_node_counts_are_refused() -> None:
    lggm, ids = task(), torch.arange(4)
    with pytest.raises(ArgumentError, match="no domain 'road'"):
        lggm.sizes(ids, 0, domain="road")
    with pytest.raises(ArgumentError, match="at most 9, as in training"):
        lggm.sizes(ids, 0, size=10)
    with pytest.raises(ArgumentError, match="empty"):
        lggm.sizes(ids, 0, prompt="")


# -- conditions --------------------------------------------------------------------------------


def template(lggm: LggmTask, **cond: Any) -> Any:
    return lggm.template(torch.arange(3), torch.tensor([4, 5, 5]), pad=5, **cond)


def test_a_prompt_becomes_its_embedding() -> None:
    lggm = task()
    texts = ["a power grid", "low clustering", "a power grid"]
    wanted = torch.from_numpy(embed(make_encoder("word-vectors"), texts))
    assert torch.equal(template(lggm, prompt=texts)["text"], wanted)
    assert torch.equal(template(lggm, prompt=texts[0])["text"], wanted[:1].expand(3, -1))
    phrase = variants(Meaning("power"))[0]
    said = torch.from_numpy(embed(make_encoder("word-vectors"), [phrase]))
    assert torch.equal(template(lggm, domain="power")["text"], said.expand(3, -1))
    assert torch.equal(template(lggm, domain="power", prompt=texts)["text"], wanted)
    assert "text" not in template(lggm, size=4).values


def test_guidance_is_carried_only_where_it_changes_something() -> None:
    lggm = task()
    assert "guidance" not in template(lggm, prompt="a food web").values
    assert "guidance" not in template(lggm, prompt="a food web", guidance=1).values
    assert template(lggm, prompt="a food web", guidance=2)["guidance"].tolist() == [2, 2, 2]
    each = torch.tensor([1.0, 2.0, 0.5])
    assert torch.equal(template(lggm, prompt="a food web", guidance=each)["guidance"], each)
    strong = task(guidance=3.0)
    assert template(strong, prompt="a food web")["guidance"].tolist() == [3, 3, 3]


def test_bad_conditions_are_refused() -> None:
    with pytest.raises(ConfigError, match="found colour"):
        template(task(), colour="red")
    with pytest.raises(ConfigError, match="without prompts"):
        template(task("none"), prompt="a power grid")
    assert set(template(task("none"), domain="power").values) == {"adj"}
    assert task().unknown_words("a power grid of xyzzyland") == ["xyzzyland"]
    assert task("none").unknown_words("xyzzyland") == []


# -- guidance and training ---------------------------------------------------------------------


def outputs(weight: float | None, *, told: bool = True) -> tuple[torch.Tensor, list[int]]:
    """Raw outputs of a network with random weights, and the batches its inner network saw."""
    lggm = task()
    denoiser = lggm.build().eval()
    assert isinstance(denoiser.net, ClassifierFree)
    torch.manual_seed(0)
    for p in denoiser.parameters():
        torch.nn.init.normal_(p, std=0.3)
    seen: list[int] = []
    inner = denoiser.net.net
    assert isinstance(inner, Prompted)
    inner.register_forward_pre_hook(lambda _, args: seen.append(len(args[1])))
    clean = data().batch(torch.arange(4))
    given = {} if not told else {"text": torch.randn(4, inner.text[0].in_features)}
    if weight is not None:
        given["guidance"] = torch.full((4,), weight)
    label = torch.linspace(0.2, 0.8, 4)
    with torch.no_grad():
        out = denoiser.net({"adj": clean["adj"]}, label, {"adj": clean.masks["adj"]}, given)["adj"]
    return out, seen


def test_guidance_takes_one_call_of_twice_the_batch() -> None:
    plain, calls = outputs(None)
    assert calls == [4]
    silent, _ = outputs(None, told=False)
    size = float(plain.abs().max())
    assert float((plain - silent).abs().max()) > 1e-2 * size  # the prompt says something
    for weight in (0.0, 1.0, 2.5):
        guided, calls = outputs(weight)
        assert calls == [8]
        wanted = silent + weight * (plain - silent)
        # float32 rounding, in another batch shape
        torch.testing.assert_close(guided, wanted, rtol=0, atol=1e-4 * size)


def test_a_tenth_of_the_prompts_is_hidden() -> None:
    lggm, found = task(drop=0.1), data()
    n = 3000
    told = lggm._describe(found.batch(torch.arange(n)), Key(0, torch.arange(n)))["told"]
    # Five standard deviations of a share of n draws.
    assert abs(float((~told).float().mean()) - 0.1) < 5 * (0.1 * 0.9 / n) ** 0.5
    assert (
        task(drop=0.0)
        ._describe(found.batch(torch.arange(50)), Key(0, torch.arange(50)))["told"]
        .all()
    )


@pytest.mark.parametrize("encoder", ["word-vectors", "none"])
def test_losses_and_gradients(encoder: str) -> None:
    lggm = task(encoder)
    denoiser = lggm.build()
    losses = lggm.losses(denoiser, data().batch(torch.arange(6)), Key(0, torch.arange(6)))
    assert set(losses) == {"adj"}
    assert losses["adj"].shape == (6,)
    losses["adj"].sum().backward()
    text = [p.grad for name, p in denoiser.named_parameters() if ".text." in name]
    assert bool(text) == (encoder != "none")
    # The last layer of a fresh network may be zero, but some gradient must get through.
    grads = [p.grad.abs().sum() for p in denoiser.parameters() if p.grad is not None]
    assert torch.stack(grads).sum() > 0


def test_train_sample_and_fine_tune(tmp_path: Path) -> None:
    train = TrainConfig(steps=5, batch_size=6, lr=1e-2, log_every=5)
    first = Trainer(task(), train, tmp_path / "first", data=data()).run().model
    model = graphdiff.load(first)
    prompts = ["a power grid", "Facebook friends"] * 4
    drawn = model.samples(8, seed=0, cond={"prompt": prompts, "guidance": 2.0})
    assert set(drawn.raw.num_nodes[::2].tolist()) <= SIZES["power"]
    assert set(drawn.raw.num_nodes[1::2].tolist()) <= SIZES["socfb"]
    still = TrainConfig(steps=1, batch_size=6, lr=1e-12, log_every=1)
    second = Trainer(task(), still, tmp_path / "second", data=data(), init=first).run().model
    # A step of 1e-12 moves no float32 weight that is not zero: these are the weights of `first`.
    for name, value in graphdiff.load(second, "weights").denoiser.state_dict().items():
        torch.testing.assert_close(value, model.denoiser.state_dict()[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["lggm", "lggm-plain", "lggm-published"])
def test_named_configurations(name: str) -> None:
    config, train = split_config(resolve_config(name))
    lggm = LggmTask.from_config(config)
    TrainConfig.from_config(train)
    assert lggm.prompted == (name == "lggm")
    assert LggmTask.from_config(lggm.to_config()) == lggm
