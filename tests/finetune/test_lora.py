"""Low-rank changes: what they are at the start, what is trained, and what a tuning writes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from tuning_cases import ALPHA, Problem

import graphdiff
from graphdiff.core.errors import ConfigError
from graphdiff.core.state import State
from graphdiff.finetune.config import TuneConfig
from graphdiff.finetune.task import TuneTask, tuning
from graphdiff.train import TrainConfig, Trainer
from graphdiff.train.checkpoint import load_resume
from graphdiff.train.lora import adapt, restore, split

# A graph transformer, the two networks of GDSS (raw matrices), a dilated CNN, a UNet.
MODELS = ("defog-qm9", "gdss-qm9", "mdlm-yeast-promoter", "digits")
HOW: dict[str, Any] = {"batch_size": 4, "lr": 1e-3, "max_loss_factor": None, "log_every": 1}


@dataclass(frozen=True)
class First:
    """Minus the mean of the first component: of classes, of weights of class 0, of pixels."""

    name: str = "first"
    differentiable: bool = True

    def __call__(self, state: State) -> Tensor:
        """Works on hard and on soft states."""
        value = next(iter(state.values.values()))
        return -value.double().flatten(1).mean(1)


class Small(nn.Module):
    """One parameter of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4)
        self.line = nn.Conv1d(4, 5, 3, padding=1)
        self.plane = nn.Conv2d(5, 5, 3, padding=1)
        self.stack = nn.Parameter(torch.randn(2, 5, 7))
        self.embedding = nn.Embedding(3, 6)
        self.tied = nn.Linear(6, 3, bias=False)
        self.tied.weight = self.embedding.weight
        self.norm = nn.LayerNorm(6)
        self.fixed = nn.Parameter(torch.randn(6, 6), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embedding(x) @ self.fixed + self.tied.weight.sum(0)
        h = self.line(self.linear(self.norm(h)).transpose(1, 2)).tanh()
        h = self.plane(h.unsqueeze(-1).expand(-1, -1, -1, 2)).mean(-1)
        return torch.einsum("bfn,cfg->bng", h, self.stack)


def small(dtype: torch.dtype = torch.float32) -> tuple[Small, Tensor]:
    torch.manual_seed(0)
    return Small().to(dtype), torch.tensor([[0, 1, 2, 2], [1, 0, 0, 2]])


def disturb(module: nn.Module, size: float = 0.05) -> None:
    """Move every factor away from where it starts."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            if p.requires_grad:
                noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
                p.add_(size * noise.to(p))


def noisy(model: Any) -> State:
    """States that a network can be asked at, in the middle of a chain."""
    ids = torch.arange(3)
    template = model.task.template(ids, sizes := model.task.sizes(ids, 0), pad=int(sizes.max()))
    state = next(model.task.sampler(steps=4).steps(model.denoiser, template, seed=0)).state
    assert isinstance(state, State)
    return state


def answer(denoiser: Any, state: State) -> dict[str, Tensor]:
    cond = {n: v for n, v in state.values.items() if n not in denoiser.process.parts} or None
    with torch.no_grad():
        found: dict[str, Tensor] = denoiser(state, torch.full((3,), 0.5), cond)
    return found


def tuned_task(model: Any, rank: int, seed: int = 0) -> TuneTask:
    return TuneTask(model.task, model.denoiser, First(), TuneConfig("draft", lora=rank), seed=seed)


@pytest.mark.parametrize("name", MODELS)
def test_the_start_is_the_base_and_the_sum_is_the_network(name: str) -> None:
    """Bit for bit, at the start and after; changes that are not added, or twice, are noticed."""
    model = graphdiff.load(name)
    state, adapted = noisy(model), tuned_task(model, 2).build().eval()
    base = answer(model.denoiser, state)
    for key, value in answer(adapted, state).items():
        assert torch.equal(value, base[key])
    disturb(adapted)
    plain, factors = split(adapted.state_dict())
    assert plain.keys() == model.denoiser.state_dict().keys()
    assert sum(v.numel() for v in factors.values()) == sum(
        p.numel() for p in adapted.parameters() if p.requires_grad
    )
    merged = model.task.build().eval()
    merged.load_state_dict(plain)
    found, want = answer(merged, state), answer(adapted, state)
    assert all(torch.equal(found[key], value) for key, value in want.items())
    assert any(float((base[key] - value).abs().max()) > 1e-3 for key, value in want.items())


def test_the_sum_against_products_by_hand() -> None:
    """``W + B A`` of every kind of matrix in float64, and the network with these weights."""
    net, x = small(torch.float64)
    adapt(net, 2, seed=3)
    disturb(net)
    plain, factors = split(net.state_dict())
    own = net.state_dict()

    def terms(name: str) -> tuple[Tensor, Tensor, Tensor]:
        owner, _, tensor = name.rpartition(".")
        at = f"{owner}.parametrizations.{tensor}" if owner else f"parametrizations.{tensor}"
        return own[f"{at}.original"], own[f"{at}.0.up"], own[f"{at}.0.down"]

    w, b, a = terms("linear.weight")
    want = {"linear.weight": w + torch.einsum("nr,rm->nm", b, a)}
    w, b, a = terms("line.weight")
    want["line.weight"] = w + torch.einsum("or,rik->oik", b, a.view(2, 4, 3))
    w, b, a = terms("plane.weight")
    want["plane.weight"] = w + torch.einsum("or,rihw->oihw", b, a.view(2, 5, 3, 3))
    w, b, a = terms("stack")
    want["stack"] = w + torch.einsum("cfr,crg->cfg", b, a)
    for name, value in want.items():
        torch.testing.assert_close(plain[name], value, atol=1e-14, rtol=0)
    # Of 14 matrices, the tied one counts once: 2 (n + m) numbers each.
    count = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert count == 2 * ((4 + 6) + (5 + 12) + (5 + 45) + 2 * (5 + 7) + (3 + 6))
    assert len(factors) == 2 * 6  # those of the tied matrix are listed at both places
    fresh, _ = small(torch.float64)
    fresh.load_state_dict(plain)
    torch.testing.assert_close(fresh(x), net(x), atol=1e-12, rtol=0)
    assert torch.equal(plain["tied.weight"], plain["embedding.weight"])


def test_a_short_side_caps_the_rank() -> None:
    net, _ = small()
    adapt(net, 3)
    shapes = {n: tuple(p.shape) for n, p in net.named_parameters() if p.requires_grad}
    assert shapes["embedding.parametrizations.weight.0.up"] == (3, 3)
    assert shapes["linear.parametrizations.weight.0.down"] == (3, 6)
    low = nn.Sequential(nn.Linear(1, 40), nn.Linear(40, 40))
    adapt(low, 4)
    assert sum(p.numel() for p in low.parameters() if p.requires_grad) == 1 * 41 + 4 * 80


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_a_step_of_adam_is_as_long_as_without_factors(rank: int) -> None:
    """The root mean square of the first step is the learning rate at every rank.

    Its square is a mean of 1,024 squares of normals of variance 1, or of more terms: a deviation
    of at most sqrt(2 / 1024) = .044, five of which are allowed. A factor 1 / r would miss.
    """
    torch.manual_seed(rank)
    net = nn.Linear(1024, 64)
    before = net.weight.detach().clone()
    adapt(net, rank)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr := 1e-3)
    net(torch.randn(50, 1024)).square().sum().backward()
    optimizer.step()
    moved = float((net.weight.detach() - before).square().mean()) / lr**2
    assert moved == pytest.approx(1, abs=0.22)


def test_the_seed_fixes_the_factors() -> None:
    """They differ between matrices and seeds, and building again gives the same."""
    model = graphdiff.load("defog-qm9")
    one, same, other = (split(tuned_task(model, 2, s).build().state_dict())[1] for s in (1, 1, 2))
    assert all(torch.equal(v, same[k]) for k, v in one.items())
    downs = [k for k in one if k.endswith("down")]
    assert not any(torch.equal(one[k], other[k]) for k in downs)
    starts = [tuple(one[k].flatten()[:4].tolist()) for k in downs]
    assert len(set(starts)) == len(starts)


def test_what_cannot_be_adapted_is_named() -> None:
    with pytest.raises(ConfigError, match=r"tune\.lora: found 0"):
        TuneConfig(lora=0)
    with pytest.raises(ConfigError, match="no matrix"):
        adapt(nn.LayerNorm(5), 1)
    with pytest.raises(ConfigError, match="no matrix"):
        adapt(nn.Linear(3, 3).requires_grad_(False), 1)
    # 30 * 20 = 600 numbers: rank 11 has 550, rank 12 has 600.
    with pytest.raises(ConfigError, match=r"rank 25 have 1,000 .* 600 .*1 of 1 .* at most 11, or"):
        adapt(nn.Linear(30, 20), 25)
    adapt(nn.Linear(30, 20), 11)
    with pytest.raises(ConfigError, match="set it to None"):
        adapt(nn.Linear(1, 3), 1)
    base = graphdiff.load("defog-qm9")
    with pytest.raises(ConfigError, match="changes of rank 64 have"):
        tuning(base, base.reward("qed"), TuneConfig(lora=64), TrainConfig(steps=1, **HOW))


@pytest.mark.parametrize("config", [TuneConfig("wdce", ALPHA), TuneConfig("ddpo", ALPHA, picked=6)])
def test_tuned_through_factors_the_law_comes_nearer(config: TuneConfig) -> None:
    """Strings of three tokens, enumerated; every row of the table changes by a rank of one."""
    problem = Problem(8)
    frozen = problem.denoiser.net.logits.detach().clone()
    adapt(problem.denoiser, 1)
    before = problem.distance()
    problem.tune(config, 60, lr=0.05)
    law = problem.law(problem.denoiser)
    gain = (law - problem.law(problem.reference)) @ problem.made.table
    # Of what the optimum gains; and rank one is not the table itself.
    most = (problem.target() - problem.law(problem.reference)) @ problem.made.table
    assert float(gain / most) > 0.7
    assert problem.distance() < 0.5 * before
    net = problem.denoiser.net
    assert torch.equal(net.parametrizations.logits.original, frozen)
    assert int(torch.linalg.matrix_rank(net.logits.detach() - frozen, rtol=1e-4).max()) == 1


# -- as a training -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "method"),
    [("defog-qm9", "wdce"), ("mdlm-yeast-promoter", "drakes"), ("digits", "draft")],
)
def test_a_tuning_resumes_to_the_bit_and_writes_a_plain_model(
    name: str, method: Any, tmp_path: Path
) -> None:
    base, rank = graphdiff.load(name), 2
    before = {k: v.clone() for k, v in base.denoiser.state_dict().items()}
    config = TuneConfig(method, 0.1, steps=4, picked=2, repeats=1, truncate=2, lora=rank)

    def trainer(steps: int, out: Path) -> Trainer:
        train = TrainConfig(steps=steps, ema=0.5, clip=1.0, checkpoint_every=2, **HOW)
        task, data = tuning(base, First(), config, train)
        return Trainer(task, train, out, data, device="cpu")

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    trainer(4, whole).run()
    trainer(2, cut).run()
    again = trainer(4, cut)
    assert again.run().finished
    ends = [out / "checkpoints" / "step-000000004" for out in (whole, cut)]
    for file in ("weights.safetensors", "ema.safetensors"):
        assert (ends[0] / file).read_bytes() == (ends[1] / file).read_bytes()
    mine, theirs = (load_resume(end)["factors"] for end in ends)
    assert all(torch.equal(v, theirs[w][k]) for w, found in mine.items() for k, v in found.items())
    # What is trained, and nothing else: the optimiser has moments of the factors only.
    start, *_ = map(json.loads, (whole / "log.jsonl").read_text().splitlines())
    count = sum(v.numel() for v in mine["weights"].values())
    assert sum(start["parameters"].values()) == again.trained == count
    assert start["frozen"] == sum(p.numel() for p in base.denoiser.parameters())
    moments = load_resume(ends[0])["optimizer"]["state"].values()
    assert sum(m["exp_avg"].numel() for m in moments) == count
    # The base is untouched; what is written loads as a model, which differs from it by low ranks.
    assert all(torch.equal(v, before[k]) for k, v in base.denoiser.state_dict().items())
    for which in ("weights", "ema"):
        tuned = graphdiff.load(whole, which=which)
        changed = 0
        for key, value in tuned.denoiser.state_dict().items():
            gap = (value - before[key]).double()
            if gap.ndim < 2:
                assert not gap.any()
            elif gap.any():
                changed += 1
                assert int(torch.linalg.matrix_rank(gap.flatten(1), rtol=1e-2)) <= rank
        assert changed > 5
        assert len(tuned.sample(2, steps=4)) == 2


def test_average_and_network_are_restored_from_their_factors() -> None:
    """A sum does not say what it is the sum of; other weights and buffers come from the model."""
    net, x = small()
    adapt(net, 2)
    disturb(net)
    with torch.no_grad():
        net.norm.bias.add_(1.0)
    plain, factors = split(net.state_dict())
    fresh, _ = small()
    adapt(fresh, 2)
    restore(fresh, plain, factors)
    assert torch.equal(fresh(x), net(x))
    never, _ = small()
    restore(never, plain, {})
    assert torch.equal(never(x), net(x))


def test_lora_on_the_command_line(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from graphdiff.cli.app import app

    def call(*words: str) -> str:
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    out = str(tmp_path / "run")
    words = ["finetune", "defog-qm9", "--reward", "qed", "--out", out, "--set", "train.steps=1"]
    words += ["--set", "train.batch_size=4", "--set", "tune.steps=3", "--set", "tune.lora=2"]
    text = call(*words)
    assert "22,398 parameters are trained, 445,852 stay as they are" in text
    call("sample", out, "-n", "2", "--steps", "3", "--out", str(tmp_path / "samples"))
    assert (tmp_path / "samples").is_dir()
