"""Tuners against the enumerated optimum, and as trainings: logs, resuming, what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tuning_cases import ALPHA, Problem

import graphdiff
from graphdiff.core.errors import ConfigError, RewardError
from graphdiff.core.kernel import Categorical
from graphdiff.core.plan import PlanSpec
from graphdiff.core.sampler import Sampler
from graphdiff.core.state import State
from graphdiff.finetune.config import TuneConfig
from graphdiff.finetune.policy import advantages
from graphdiff.finetune.rollout import kernels_at, log_prob, replayable, roll
from graphdiff.finetune.task import tuning
from graphdiff.finetune.weighted import log_weights
from graphdiff.train import TrainConfig, Trainer


@pytest.mark.parametrize(
    ("config", "iterations", "lr"),
    [
        (TuneConfig("wdce", ALPHA), 150, 0.05),
        (TuneConfig("ddpo", ALPHA, picked=0), 150, 0.1),
        (TuneConfig("ddpo", ALPHA, picked=6), 200, 0.1),
    ],
    ids=["wdce", "ddpo", "ddpo-picked"],
)
def test_tuners_reach_the_optimum(config: TuneConfig, iterations: int, lr: float) -> None:
    """Total variation to ``p exp(r / alpha)``, over all strings; 20 independent steps of three
    tokens cannot hold it exactly."""
    problem = Problem()
    before = problem.distance()
    problem.tune(config, iterations, lr=lr)
    assert before > 0.25
    assert problem.distance() < 0.05


def test_without_the_divergence_a_policy_leaves_the_optimum(monkeypatch: Any) -> None:
    """The mutation that published code has: KL terms that are zero where they matter."""
    problem = Problem()
    monkeypatch.setattr(Categorical, "kl", lambda self, other: 0 * self.log_prob(self.mode))
    problem.tune(TuneConfig("ddpo", ALPHA, picked=0), 150, lr=0.1)
    monkeypatch.undo()
    assert problem.distance() > 0.2


def test_without_the_ratio_weights_are_those_of_another_target(monkeypatch: Any) -> None:
    problem = Problem()
    problem.tune(TuneConfig("rwr", ALPHA), 150)
    assert problem.distance() > 0.2  # sharpens further and further
    assert float(problem.law(problem.denoiser) @ problem.made.table) > float(
        problem.target() @ problem.made.table
    )


def test_the_policy_gradient_is_that_of_the_objective() -> None:
    """Against the derivative of ``E[r] - alpha KL``, enumerated, at a network off the optimum."""
    problem = Problem(steps=3)
    made, sampler = problem.made, problem.made.sampler
    problem.disturb()
    table = problem.denoiser.net.logits
    every = State({"x": made.exact.states}, {}, torch.arange(len(made.table)))
    p, cost = (
        torch.zeros(len(made.table), dtype=torch.float64),
        torch.zeros((), dtype=torch.float64),
    )
    p[-1] = 1
    for i in range(made.steps):
        mine = kernels_at(sampler, problem.denoiser, every, i)["x"]
        theirs = kernels_at(sampler, problem.reference, every, i)["x"]
        cost = cost + p @ mine.kl(theirs).double()
        p = p @ made.exact.product_kernel(mine.mean.double())
    objective = p @ made.table - ALPHA * cost
    (want,) = torch.autograd.grad(objective, table)
    problem.check_policy_gradient(want)


def test_weights_are_equal_at_the_optimum_and_exact_before() -> None:
    """Weighted means of the base model's chains are means of the target."""
    problem = Problem(steps=6)
    ids = torch.arange(20_000)
    made, generator = problem.made, torch.Generator().manual_seed(2)
    with torch.no_grad():
        problem.denoiser.net.logits.add_(0.3 * torch.randn(64, 3, 4, generator=generator))
    rollout = problem.roll(ids, 0)
    config = TuneConfig("wdce", ALPHA)
    w = torch.softmax(log_weights(problem.tuned(config), rollout), 0)
    got = torch.zeros(64, dtype=torch.float64).index_add_(0, made.number(rollout.final["x"]), w)
    assert float((got - problem.target()).abs().sum() / 2) < 0.03
    plain = torch.softmax(rollout.rewards / ALPHA, 0)  # without the ratio
    off = torch.zeros(64, dtype=torch.float64).index_add_(0, made.number(rollout.final["x"]), plain)
    assert float((off - problem.target()).abs().sum() / 2) > 0.03


def test_samples_without_a_reward_are_left_out() -> None:
    problem = Problem()
    made = problem.made
    made.table = torch.where(made.table > 2, -torch.inf, made.table)
    rollout = problem.roll(torch.arange(64), 0)
    assert not bool(rollout.scored.all())
    assert torch.isfinite(rollout.rewards).all()
    config = TuneConfig("wdce", ALPHA)
    log_w = log_weights(problem.tuned(config), rollout)
    assert torch.equal(torch.isneginf(log_w), ~rollout.scored)
    made.table = torch.full_like(made.table, -torch.inf)
    with pytest.raises(RewardError, match="none of 8 samples has a reward"):
        problem.roll(torch.arange(8), 0)


def test_a_replayed_step_is_the_step() -> None:
    problem = Problem()
    sampler, template = problem.made.sampler, problem.made.template(torch.arange(5))
    rollout = roll(sampler, problem.denoiser, template, problem.made.reward, 3)
    for step in sampler.steps(problem.denoiser, template, seed=3):
        again = kernels_at(sampler, problem.denoiser, rollout.states[step.index], step.index)
        assert torch.equal(again["x"].mean, step.kernels["x"].mean)
        torch.testing.assert_close(
            log_prob(again, step.state, last=False), step.kernels["x"].log_prob(step.state["x"])
        )


def test_advantages() -> None:
    rewards = torch.tensor([1.0, 2.0, 3.0, 6.0])
    plain = advantages(rewards, TuneConfig("ddpo"))
    assert plain[3] == 6 - 2  # against the mean of the others
    grouped = advantages(rewards, TuneConfig("grpo", group=2))
    torch.testing.assert_close(grouped, torch.tensor([-1.0, 1.0, -1.0, 1.0]) / 2**0.5)
    with pytest.raises(ConfigError, match="does not divide"):
        advantages(rewards, TuneConfig("grpo", group=3))
    with pytest.raises(ConfigError, match="at least 2"):
        advantages(rewards[:1], TuneConfig("ddpo"))


def test_what_cannot_be_replayed_is_named() -> None:
    from graphdiff.core.gaussian import Gaussian
    from graphdiff.core.process import Product
    from graphdiff.core.sampler import Times
    from graphdiff.core.schedule import VP

    product = Product({"x": Gaussian(VP())})
    with pytest.raises(ConfigError, match="more than once a step"):
        replayable(Sampler(product, PlanSpec(corrector="heun"), Times(4, end=1e-3)))
    with pytest.raises(ConfigError, match="ExpansionSampler"):
        replayable(graphdiff.load("hspectre-tree").sampler())
    ode = Sampler(product, PlanSpec(), Times(4, end=1e-3))
    state = State({"x": torch.zeros(3, 2)}, {}, torch.arange(3))
    call: Any = lambda s, t, c=None: {"x": torch.zeros_like(s["x"])}  # noqa: E731
    with pytest.raises(ConfigError, match="no policy to tune"):
        log_prob(kernels_at(ode, call, state, 0), state, last=False)
    for name, wrong in (
        ("method", "ppo"),
        ("alpha", 0.0),
        ("picked", 1),
        ("group", 1),
        ("repeats", 0),
        ("baseline", 1.5),
    ):
        with pytest.raises(ConfigError, match=f"tune.{name}"):
            replace(TuneConfig(), **{name: wrong})
    with pytest.raises(ConfigError, match="only the weights of wdce"):
        TuneConfig("rwr", baseline=0.5)


# -- as a training -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["wdce", "grpo"])
def test_a_tuning_is_a_training(method: Any, tmp_path: Path) -> None:
    """Resumed, it ends with the same bits; what it writes loads and samples as a model."""
    base = graphdiff.load("defog-qm9")
    config = TuneConfig(method, 0.1, steps=5, picked=2, group=4, repeats=1)
    how = {"batch_size": 8, "lr": 1e-4, "ema": None, "checkpoint_every": 2, "log_every": 1}
    how["max_loss_factor"] = None

    def trainer(steps: int, out: Path) -> Trainer:
        train = TrainConfig(steps=steps, **how)
        task, data = tuning(base, base.reward("qed"), config, train)
        return Trainer(task, train, out, data)

    trainer(4, tmp_path / "whole").run()
    trainer(2, tmp_path / "cut").run()
    assert trainer(4, tmp_path / "cut").run().finished
    name = "checkpoints/step-000000004/weights.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    records = [
        json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()
    ]
    losses = [r["loss"] for r in records if r["event"] == "train"]
    assert all(-1 < r["reward"] < 0 for r in losses)
    tuned = graphdiff.load(tmp_path / "whole")
    assert tuned.dataset == "qm9"
    assert tuned.card.data["base"] == "defog-qm9"
    assert tuned.card.data["reward"] == "qed"
    assert not torch.equal(next(tuned.denoiser.parameters()), next(base.denoiser.parameters()))
    assert len(tuned.sample(3, steps=4)) == 3
    other, data = tuning(base, base.reward("logp"), config, TrainConfig(steps=4, **how))
    with pytest.raises(ConfigError):
        Trainer(other, TrainConfig(steps=6, **how), tmp_path / "cut", data).run()


def test_what_cannot_be_tuned_is_named() -> None:
    base, config = graphdiff.load("defog-qm9"), TuneConfig()
    reward = base.reward("qed")
    for change, named in (({"accumulate": 2}, "accumulate"), ({}, "max_loss_factor")):
        free = {"max_loss_factor": None} if change else {}
        with pytest.raises(ConfigError, match=f"train.{named}"):
            tuning(base, reward, config, TrainConfig(steps=1, **free, **change))
    prompted, free = graphdiff.load("lggm"), TrainConfig(steps=1, max_loss_factor=None)
    with pytest.raises(ConfigError, match="reads more than a sample holds"):
        tuning(prompted, prompted.reward("edges"), config, free)
    tuning(prompted, prompted.reward("edges"), replace(config, method="ddpo"), free)


def test_finetune_on_the_command_line(tmp_path: Path) -> None:
    import subprocess
    import sys

    base = [
        sys.executable,
        "-m",
        "graphdiff",
        "finetune",
        "defog-qm9",
        "--out",
        str(tmp_path / "o"),
    ]

    def call(*words: str, rc: int = 0) -> str:
        done = subprocess.run(
            [*base, *words], capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == rc, done.stdout + done.stderr
        return done.stdout + done.stderr

    small = ["--set", "train.steps=2", "--set", "train.batch_size=4", "--set", "tune.steps=4"]
    bound = ("--constraint", "sa<=3.5")
    text = call("--reward", "qed", "--method", "ddpo", "--set", "tune.picked=2", *bound, *small)
    assert "training finished after 2 steps" in text
    assert "violation sa<=3.5" in text
    assert "unknown reward 'qedd'" in call("--reward", "qedd", rc=2)
    assert "expected NAME>=BOUND" in call("--reward", "qed", "--constraint", "sa<3", rc=2)
    assert "tune.alpha" in call("--reward", "qed", "--set", "tune.alpha=-1", rc=2)
    assert "tune.method" in call("--reward", "qed", "--method", "ppo", rc=2)
    assert "multiple of tune.group" in call(
        "--reward", "qed", "--method", "grpo", "--set", "train.batch_size=9", rc=2
    )
    assert "found model" in call("--reward", "qed", "--set", "model.dx=3", rc=2)
