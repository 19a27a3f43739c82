"""Noise-aware predictors, their gradients as guidance, and surrogates of many tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from graphdiff.core.errors import ArgumentError
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.graph.nag.build import decode, encode
from graphdiff.graph.nag.meta import SetEncoder, fit_meta
from graphdiff.graph.nag.predictor import NoisyGuide, PredictorReward, fit_predictor, sweep
from graphdiff.graph.nag.spaces import NASBenchMacro
from graphdiff.graph.nag.task import NAGTask

SPACE = NASBenchMacro()
SHAPE = {"layers": 2, "width": 32, "hidden": 32, "dropout": 0.0}


def task(noise: str) -> NAGTask:
    sample = {"kind": "jump", "solver": "ancestral", "steps": 8}
    if noise == "ve":
        sample = {"kind": "diffusion", "solver": "ancestral", "steps": 30, "grid": "uniform",
                  "published": False, "end": 1e-3}  # fmt: skip
    return NAGTask.from_config({
        "kind": "nag", "data": {"space": "macro", "split": "all"}, "noise": {"kind": noise},
        "model": {"kind": "dag", "layers": 1, "width": 32, "heads": 2}, "sample": sample,
    })  # fmt: skip


def twos(archs: Any) -> Any:
    return (archs.ops == 2).sum(1).astype(float)


def fitted(noise: str, **more: Any) -> Any:
    archs = SPACE.draw(300, np.random.default_rng(0))
    made = {"steps": 150, "batch": 64, **SHAPE, **more}
    return fit_predictor(task(noise).config, archs, twos(archs), **made)


@pytest.mark.parametrize("noise", ["absorbing", "ve"])
def test_it_predicts_clean_and_noisy_architectures(noise: str) -> None:
    made = fitted(noise)
    held = SPACE.draw(200, np.random.default_rng(1))
    assert np.corrcoef(made(held), twos(held))[0, 1] > 0.95
    clean = encode(SPACE, held, torch.arange(200), continuous=noise == "ve")
    found = []
    for t in (0.2, 0.9):
        clock = torch.full((200,), t)
        noisy = made.process.corrupt(clean, clock, Key(3, clean.ids))
        found.append(np.corrcoef(made.standard(noisy.values, clock).numpy(), twos(held))[0, 1])
    assert found[0] > 0.7
    assert found[0] > found[1]


def test_it_is_a_function_of_its_seed_and_leaves_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second, third = (fitted("absorbing", steps=5, seed=s) for s in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    held = SPACE.draw(5, np.random.default_rng(1))
    assert np.array_equal(first(held), second(held))
    assert not np.array_equal(first(held), third(held))


@pytest.mark.parametrize("noise", ["absorbing", "marginal", "ve"])
def test_guidance_raises_what_is_predicted(noise: str) -> None:
    """Exact prior (all architectures alike), so that only the predictor pulls; scale 0 is free."""
    made = task(noise)
    data = made.data()
    prepared = made.prepared(data)
    assert isinstance(prepared, NAGTask)
    archs = SPACE.draw(300, np.random.default_rng(0))
    predictor = fit_predictor(prepared.config, archs, twos(archs), steps=200, batch=64, **SHAPE)
    free = prepared.build().eval()
    optimizer = torch.optim.Adam(free.parameters(), 5e-3)
    for k in range(150):
        ids = torch.arange(64)
        loss = prepared.losses(
            free, data.batch((ids * 97 + k * 31) % len(data)), Key(0, ids, step=k)
        )
        total = torch.stack([v.mean() for v in loss.values()]).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    template = prepared.template(torch.arange(64), torch.full((64,), 8), pad=8)
    means = []
    scales = (0.0, 2.0, -2.0)
    for scale in scales:
        guide = NoisyGuide(free, predictor, abs(scale), 1 if scale >= 0 else -1)
        with torch.no_grad():
            state = prepared.sampler()(guide, template, seed=0)
        means.append(twos(decode(SPACE, state)).mean())
    with torch.no_grad():
        plain = prepared.sampler()(free, template, seed=0)
    assert twos(decode(SPACE, plain)).mean() == means[0]
    assert means[1] > means[0] + 0.5
    assert means[2] < means[0] - 0.5


def test_the_gradient_is_the_derivative() -> None:
    """Of a continuous predictor, by differences; the guided clean data move by its multiple."""
    made = task("ve")
    predictor = fitted("ve", steps=20)
    predictor.net.double()
    free = made.build().double().eval()
    x = torch.randn(2, 8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    state, t = State({"ops": x}, {}, torch.arange(2)), torch.full((2,), 0.4, dtype=torch.float64)
    guide = NoisyGuide(free, predictor, 3.0)
    moved = guide(state, t)["ops"] - free(state, t)["ops"]
    sigma = float(made.process()["ops"].schedule.sigma(torch.tensor(0.4, dtype=torch.float64)))
    for place in ((0, 2, 1), (1, 7, 0)):
        step = torch.zeros_like(x)
        step[place] = 1e-5
        high, low = (
            predictor.standard({"ops": x + s * step}, t.float())[place[0]] for s in (1, -1)
        )
        slope = float(high - low) / 2e-5
        assert float(moved[place].detach()) == pytest.approx(
            3.0 * sigma**2 * slope, rel=1e-3, abs=1e-6
        )


def test_a_reward_of_a_predictor_is_differentiable() -> None:
    predictor = fitted("absorbing", steps=30)
    archs = SPACE.draw(4, np.random.default_rng(2))
    state = encode(SPACE, archs, torch.arange(4), continuous=False)
    reward = PredictorReward(predictor)
    hot = torch.nn.functional.one_hot(state["ops"], 4).float().requires_grad_()
    found = reward(State({"ops": hot}, {}, state.ids))
    torch.testing.assert_close(found, reward(state), atol=1e-5, rtol=1e-4)
    assert float(torch.autograd.grad(found.sum(), hot)[0].abs().sum()) > 0


def test_the_published_sweep() -> None:
    scales = list(sweep())
    assert (scales[0], scales[1], len(scales)) == (10_000.0, 9_700.0, 20)
    assert list(sweep(500, 300, 3)) == [500, 200, 0]


def test_what_cannot_be_learnt_from_is_named() -> None:
    archs = SPACE.draw(3, np.random.default_rng(0))
    config = task("absorbing").config
    for values in (np.zeros(2), np.array([0.0, np.nan, 1.0])):
        with pytest.raises(ArgumentError, match="at least two architectures with finite values"):
            fit_predictor(config, archs, values)
    with pytest.raises(ArgumentError, match="another noise"):
        NoisyGuide(task("absorbing").build(), fitted("ve", steps=2), 1.0)
    with pytest.raises(ArgumentError, match="expected as many of each"):
        fit_meta(config, archs, np.zeros(3), [0, 1])
    with pytest.raises(ArgumentError, match="images of 1 tasks"):
        fit_meta(config, archs, np.arange(3.0), [0, 1, 2], images=torch.zeros(1, 2, 2, 4))


def test_codes_of_images_know_no_order() -> None:
    torch.manual_seed(0)
    encoder = SetEncoder(12).double()
    images = torch.randn(2, 3, 5, 3, 2, 2, dtype=torch.float64)
    first = encoder(images)
    torch.testing.assert_close(first, encoder(images[:, [2, 0, 1]]))
    torch.testing.assert_close(first, encoder(images[:, :, [4, 2, 0, 1, 3]]))
    mixed = images.flatten(1, 2)[:, torch.randperm(15)].view_as(images)
    assert not torch.allclose(first, encoder(mixed))  # classes are more than their images


@pytest.mark.parametrize("shown", [False, True])
def test_a_surrogate_tells_tasks_apart(shown: bool) -> None:
    """Two kinds of tasks that want opposite things; a new task is told by its images only."""
    rng = np.random.default_rng(0)
    tasks, each = 12, 40
    kind = np.arange(tasks) % 2
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(tasks, 2, 4, 6, generator=generator) * 0.3
    images += torch.from_numpy(np.where(kind, 1.0, -1.0)).float().view(-1, 1, 1, 1)
    archs = SPACE.draw(tasks * each, rng)
    number = np.repeat(np.arange(tasks), each)
    values = np.where(kind[number] == 1, twos(archs), -twos(archs))
    made = fit_meta(
        task("absorbing").config, archs, values, number, images=images if shown else None,
        steps=250, batch=128,
    )  # fmt: skip
    held = SPACE.draw(100, rng)
    if shown:
        for sign in (1, -1):
            new = torch.randn(2, 4, 6, generator=generator) * 0.3 + sign
            found = made(held, made.code(new))
            assert sign * np.corrcoef(found, twos(held))[0, 1] > 0.8
        with pytest.raises(ArgumentError, match="reads the images"):
            made.code()
        return
    with torch.no_grad():
        codes = made.codes(torch.tensor([0, 1]))
    for k, sign in ((0, -1), (1, 1)):
        assert sign * np.corrcoef(made(held, codes[k]), twos(held))[0, 1] > 0.8
    assert made(held).std() < 0.6 * made(held, codes[1]).std()  # nobody knows what a new one wants
    with pytest.raises(ArgumentError, match="without images"):
        made.code(images[0])
