"""What a tuning reports beside the reward, and what stops it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tuning_cases import ALPHA, Problem

import graphdiff
from graphdiff.core.categorical import Uniform
from graphdiff.core.errors import ConfigError, TrainingError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.schedule import VP, FlowMatching
from graphdiff.core.space import Symmetric
from graphdiff.core.state import State
from graphdiff.finetune.config import TuneConfig
from graphdiff.finetune.rollout import kernels_at, roll
from graphdiff.finetune.task import tuning
from graphdiff.finetune.watch import (
    check,
    diversity,
    estimated_distance,
    novelty,
    require_tokens,
    training_keys,
)
from graphdiff.train import TrainConfig, Trainer


def test_diversity_counts_real_tokens_once() -> None:
    """By hand: nodes 0 1 | 0 0 | 0 1 (the last has a third one, of class 2), and one edge each."""
    process = Product(
        {"x": Uniform(FlowMatching(), 3), "a": Uniform(FlowMatching(), 2, Symmetric())}
    )
    x = torch.tensor([[0, 1, 1], [0, 0, 0], [0, 1, 2]])
    a = torch.zeros(3, 3, 3, dtype=torch.int64)
    a[:2, 0, 1] = a[:2, 1, 0] = 1
    mask = torch.tensor([[True, True, False], [True, True, False], [True, True, True]])
    state = State({"x": x, "a": a}, {"x": mask, "a": mask}, torch.arange(3))
    notes = diversity(process, state)
    assert float(notes["distinct"]) == 1.0
    third = math.log(3) - 2 / 3 * math.log(2)  # of shares 1/3 and 2/3
    # Tokens: 3 first nodes, 3 second ones, 1 third one; 3 first pairs, 1 of each other.
    assert float(notes["entropy"]) == pytest.approx((3 * third + 3 * third) / 12)
    same = state.replace(x=x[:1].expand(3, 3), a=a[:1].expand(3, 3, 3))
    notes = diversity(process, State(same.values, {}, same.ids))
    assert float(notes["distinct"]) == pytest.approx(1 / 3)
    assert float(notes["entropy"]) == 0.0
    # Padding makes no difference between samples.
    one, hidden = x[:1].repeat(3, 1), mask[:1].repeat(3, 1)
    one[1, 2] = 2
    padded = State({"x": one, "a": a[:1].repeat(3, 1, 1)}, {"x": hidden, "a": hidden}, same.ids)
    assert float(diversity(process, padded)["distinct"]) == pytest.approx(1 / 3)
    mixed = Product({"x": Gaussian(VP())})
    assert diversity(mixed, State({"x": torch.zeros(3, 2)}, {}, torch.arange(3))) == {}


def test_the_distance_is_that_of_the_chains() -> None:
    """Against the divergence summed over all states and steps; a factor of 1.2 would show."""
    problem = Problem(steps=8)
    made = problem.made
    noise = torch.randn(64, 3, 4, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        problem.denoiser.net.logits.add_(0.5 * noise)
    every = State({"x": made.exact.states}, {}, torch.arange(64))
    p, want = torch.zeros(64, dtype=torch.float64), 0.0
    p[-1] = 1
    with torch.no_grad():
        for i in range(made.steps):
            mine = kernels_at(made.sampler, problem.denoiser, every, i)["x"]
            theirs = kernels_at(made.sampler, problem.reference, every, i)["x"]
            want += float(p @ mine.kl(theirs).double())
            p = p @ made.exact.product_kernel(mine.mean.double())
    tuned, found = problem.tuned(TuneConfig("rwr", ALPHA)), []
    for k in range(100):
        ids = torch.arange(200)
        rollout = roll(made.sampler, problem.denoiser, made.template(ids), made.reward, k)
        found.append(float(estimated_distance(tuned, rollout, Key(0, ids, step=k)).mean()))
    each = torch.tensor(found)
    error = float(each.std()) / 10
    assert abs(float(each.mean()) - want) < 4 * error
    assert abs(float(each.mean()) - 1.2 * want) > 4 * error


def test_collapse_and_distance_stop_a_tuning() -> None:
    config = TuneConfig("ddpo", 0.5, max_kl=2.0, min_entropy=0.3)
    good = {k: torch.tensor(v) for k, v in (("distinct", 0.5), ("entropy", 0.4), ("distance", 1.9))}
    check(config, good, 8)
    for name, value, message in (
        ("distinct", 0.12, r"only 12% of the samples"),
        ("entropy", 0.2, r"0\.2 nats of entropy on average \(tune\.min_entropy 0\.3\)"),
        ("distance", 3.0, r"3\.00 nats from the base model"),
    ):
        with pytest.raises(TrainingError, match=message):
            check(config, {**good, name: torch.tensor(value)}, 8)
    # A handful of samples proves nothing.
    check(config, {**good, "distinct": torch.tensor(0.1), "entropy": torch.tensor(0.0)}, 4)
    check(TuneConfig("ddpo"), {**good, "distance": torch.tensor(1e9)}, 8)
    for method in ("smc", "sdpo", "draft"):
        with pytest.raises(ConfigError, match=r"tune\.max_kl"):
            TuneConfig(method, max_kl=1.0)  # type: ignore[arg-type]
    for wrong in ({"min_entropy": -1.0}, {"dual_lr": 0.0}):
        with pytest.raises(ConfigError, match="tune." + next(iter(wrong))):
            TuneConfig(**wrong)  # type: ignore[arg-type]


def test_entropy_of_continuous_samples_has_no_floor() -> None:
    process = Product({"x": Uniform(FlowMatching(), 3), "pos": Gaussian(VP())})
    require_tokens(TuneConfig("ddpo"), process)
    with pytest.raises(ConfigError, match="component 'pos' is continuous"):
        require_tokens(TuneConfig("ddpo", min_entropy=0.1), process)


def test_novelty_is_the_share_of_unseen_samples() -> None:
    """Examples of the training set are none of them new; changed ones are."""
    base = graphdiff.load("mdlm-yeast-promoter")

    class Few:
        """The first examples of a training set."""

        def __init__(self) -> None:
            ids = torch.arange(12)
            self.state = base.task.template(ids, base.task.sizes(ids, 0), pad=80)
            tokens = torch.randint(0, 4, self.state["tokens"].shape, generator=torch.Generator())
            self.state = self.state.replace(tokens=tokens)

        def __len__(self) -> int:
            return 12

        def batch(self, index: torch.Tensor) -> State:
            return self.state.select(index)

    data: Any = Few()
    seen = training_keys(base.task, data)
    assert len(seen) == 12
    assert float(novelty(base.task, seen, data.state)) == 0.0
    tokens = data.state["tokens"].clone()
    tokens[:3, 0] = (tokens[:3, 0] + 1) % 4
    assert float(novelty(base.task, seen, data.state.replace(tokens=tokens))) == pytest.approx(
        3 / 12
    )


@pytest.mark.parametrize("method", ["sepo", "grpo", "wdce", "sdpo"])
def test_every_record_tells(method: Any, tmp_path: Path) -> None:
    base = graphdiff.load("defog-qm9")
    config = TuneConfig(method, 0.1, steps=5, picked=2, group=4, repeats=1)
    how = TrainConfig(steps=2, batch_size=8, ema=None, log_every=1, max_loss_factor=None)
    task, data = tuning(base, base.reward("qed"), config, how)
    Trainer(task, how, tmp_path / "out", data).run()
    lines = map(json.loads, (tmp_path / "out" / "log.jsonl").read_text().splitlines())
    losses = [record["loss"] for record in lines if record["event"] == "train"]
    assert len(losses) == 2
    for loss in losses:
        assert 0.25 < loss["distinct"] <= 1
        assert 0 < loss["entropy"] < math.log(6)
        assert ("distance" in loss) == (method != "sdpo")
        assert "novelty" not in loss
    if method != "sdpo":
        assert losses[0]["distance"] == pytest.approx(0, abs=1e-4)  # it is the base model
        assert losses[1]["distance"] > losses[0]["distance"]
