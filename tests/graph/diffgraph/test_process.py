"""Schedules, starts and the published sampler, all through the core."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from graphdiff.core.errors import ArgumentError
from graphdiff.core.rng import Key
from graphdiff.core.schedule import Cosine
from graphdiff.graph.diffgraph.denoiser import DenoiserConfig, HeteroDenoiser
from graphdiff.graph.diffgraph.process import (
    LinearVariance,
    PosteriorMean,
    ViewProcess,
    published_weights,
)


def published_tables(T: int, scale: float) -> dict[str, np.ndarray]:
    """The tables of denoising diffusion, from the variances as published, in plain numpy."""
    v = np.linspace(scale * 1e-4, scale * 1e-3, T)
    bar = 1 - v
    beta = np.minimum(1 - bar / np.concatenate([[1.0], bar[:-1]]), 0.999)
    beta[0] = 1e-4
    bar = np.cumprod(1 - beta)
    before = np.concatenate([[1.0], bar[:-1]])
    return {
        "bar": bar,
        "clean": beta * np.sqrt(before) / (1 - bar),
        "state": (1 - before) * np.sqrt(1 - beta) / (1 - bar),
    }


@pytest.mark.parametrize(("T", "scale"), [(200, 1e-4), (150, 1e-4), (200, 1e-5)])
def test_schedule_and_posterior_means_are_the_published_tables(T: int, scale: float) -> None:
    tables, schedule = published_tables(T, scale), LinearVariance(T, scale)
    grid = schedule.clock(torch.arange(T))
    assert schedule.alpha(grid).numpy() ** 2 == pytest.approx(tables["bar"], abs=1e-14)
    times = [i / T for i in range(T, -1, -1)]
    plan = PosteriorMean().compile(ViewProcess(schedule), times)
    rows = plan.rows[0][::-1]  # by step number
    # 1 - bar of the tables, about 1e-4, has lost four digits, a difference of two of them eight
    assert [row.scale for row in rows] == pytest.approx(tables["state"], abs=2e-8)
    assert [row.data for row in rows] == pytest.approx(tables["clean"], abs=2e-8)
    assert all(row.std == 0 for row in rows)


def test_published_chain_is_one_call_by_its_coefficients() -> None:
    chain = HeteroDenoiser(4, 4, DenoiserConfig.published(T=200, dim=4))
    rows = chain.sampler.compile().programs["z"].rows[0]
    # the last step forgets the state and returns the prediction of t = 0
    assert (rows[-1].scale, rows[-1].data, rows[-1].time) == (0.0, 1.0, 1 / 200)
    # what all the others add to the state is 9e-4 of a prediction
    assert sum(row.data for row in rows[:-1]) == pytest.approx(9e-4, rel=1e-3)
    kept = math.prod(row.scale for row in rows[:-1])
    assert 1 - kept == pytest.approx(9e-4, rel=1e-3)
    nodes = HeteroDenoiser(4, 4, DenoiserConfig.published(T=200, noise_scale=1e-5, dim=4))
    rows = nodes.sampler.compile().programs["z"].rows[0]
    assert sum(row.data for row in rows[:-1]) == pytest.approx(9e-5, rel=1e-3)


def test_published_chain_is_one_call_by_its_answers() -> None:
    chain = HeteroDenoiser(16, 16, DenoiserConfig.published(T=200, dim=16), seed=3).eval()
    once = HeteroDenoiser(16, 16, DenoiserConfig.published(1, T=200, dim=16), seed=3).eval()
    assert (chain.network_calls, once.network_calls) == (200, 1)
    source = Key(1, torch.arange(50)).normal(16)
    long, short = chain.sample(source), once.sample(source)
    assert (long - short).abs().max() < 1e-3 * short.abs().max()
    assert not torch.equal(long, short)


def test_published_weights() -> None:
    weights = published_weights(LinearVariance(200, 1e-4))
    snr = (lambda b: b / (1 - b))(published_tables(200, 1e-4)["bar"])
    assert weights[0] == 1
    assert weights[1:].numpy() == pytest.approx(snr[:-1] - snr[1:], abs=1e-4)
    assert float(weights[1]) == pytest.approx(0.045, abs=5e-4)


def test_a_real_schedule_is_not_one_call() -> None:
    chain = HeteroDenoiser(16, 16, DenoiserConfig(steps=8, hidden=32), seed=3).eval()
    rows = chain.sampler.compile().programs["z"].rows[0]
    # predictions of the earlier steps enter the last state with weight of the order of one
    assert sum(row.data for row in rows[:-1]) > 1
    assert chain.network_calls == 8


def test_every_call_is_counted_by_the_network() -> None:
    for steps in (1, 4, 8):
        chain, calls = HeteroDenoiser(4, 3, DenoiserConfig(steps=steps, hidden=8)), []
        chain.denoiser.net.register_forward_hook(lambda *_, c=calls: c.append(1))
        chain.sample(torch.ones(5, 3))
        assert len(calls) == chain.network_calls == steps


def test_ddim_recovers_a_point_mass_from_noise() -> None:
    chain = HeteroDenoiser(3, 3, DenoiserConfig(steps=8, hidden=8, residual=True))
    source = Key(2, torch.arange(10)).normal(3)  # the untrained residual network answers the source
    assert torch.allclose(chain.sample(source), source, atol=1e-6)


def test_starts() -> None:
    x, key = torch.full((4000, 2), 3.0), Key(0, torch.arange(4000))
    at = ViewProcess(Cosine(), start="source").prior(x, None, key)
    assert torch.equal(at, x)
    half = ViewProcess(Cosine(), start="noised", begin=0.5).prior(x, None, key)
    alpha, sigma = float(Cosine().alpha(0.5)), float(Cosine().sigma(0.5))
    assert float(half.mean()) == pytest.approx(3 * alpha, abs=0.05)
    assert float(half.std()) == pytest.approx(sigma, rel=0.05)
    noise = ViewProcess(Cosine(), start="noise", begin=0.5).prior(x, None, key)
    assert float(noise.mean()) == pytest.approx(0, abs=0.05)
    assert float(noise.std()) == pytest.approx(sigma, rel=0.05)


def test_training_corrupts_what_it_says() -> None:
    target, source = torch.zeros(2000, 4), torch.full((2000, 4), 5.0)
    key = Key(4, torch.arange(2000))
    for corrupts, mean in (("target", 0.0), ("source", 5.0)):
        config = DenoiserConfig(corrupts=corrupts, hidden=8, begin=0.2)
        chain, seen = HeteroDenoiser(4, 4, config), []
        chain.denoiser.net.register_forward_pre_hook(lambda _, a, s=seen: s.append(a[0]["z"]))
        chain.estimate(target, source, key)
        assert float(seen[0].mean()) == pytest.approx(mean, abs=0.3)


def test_loss_is_the_error_of_clean_data() -> None:
    chain = HeteroDenoiser(3, 3, DenoiserConfig(hidden=8, residual=True))
    target, source = torch.ones(6, 3), torch.full((6, 3), 3.0)
    made = chain.estimate(target, source, Key(0, torch.arange(6)))
    assert torch.allclose(made.target, source)
    assert torch.allclose(made.loss, torch.full((6,), 4.0))


def test_gradients_flow_to_both_views_as_published() -> None:
    chain = HeteroDenoiser(4, 4, DenoiserConfig.published(1, dim=4)).eval()
    target = torch.ones(5, 4, requires_grad=True)
    source = Key(1, torch.arange(5)).normal(4).requires_grad_()
    chain.estimate(target, source, Key(0, torch.arange(5))).loss.sum().backward()
    assert target.grad.abs().sum() > 0
    assert source.grad.abs().sum() > 0


def test_noise_of_a_node_does_not_depend_on_its_batch() -> None:
    chain = HeteroDenoiser(4, 4, DenoiserConfig(hidden=8), seed=1).eval()
    source = Key(1, torch.arange(6)).normal(4)
    whole = chain.sample(source, seed=2)
    part = chain.sample(source[4:], seed=2, ids=torch.tensor([4, 5]))
    assert torch.allclose(whole[4:], part, atol=1e-6)
    assert not torch.allclose(whole, chain.sample(source, seed=3), atol=1e-3)


def test_weights_are_a_function_of_the_seed() -> None:
    before = torch.get_rng_state()
    a, b, c = (HeteroDenoiser(4, 4, DenoiserConfig(hidden=8), seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    same = [torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True)]
    other = [torch.equal(x, y) for x, y in zip(a.parameters(), c.parameters(), strict=True)]
    assert all(same)
    assert not all(other)


def test_bad_settings() -> None:
    with pytest.raises(ArgumentError, match="one of"):
        ViewProcess(Cosine(), start="middle")
    with pytest.raises(ArgumentError, match="clock"):
        ViewProcess(Cosine(), begin=0.0)
    with pytest.raises(ArgumentError, match="2 or more"):
        LinearVariance(1)
    with pytest.raises(ArgumentError, match="low < high"):
        LinearVariance(10, low=1.0, high=0.1)
    with pytest.raises(ArgumentError, match="nothing of it is used"):
        DenoiserConfig(told=False)
    with pytest.raises(ArgumentError, match="told"):
        DenoiserConfig(told=False, start="noised", residual=True)
    with pytest.raises(ArgumentError, match="expected 1 or"):
        DenoiserConfig(steps=0)
    with pytest.raises(ArgumentError, match="even"):
        DenoiserConfig(time_dim=3)
    with pytest.raises(ArgumentError, match="published schedule has 200"):
        HeteroDenoiser(4, 4, DenoiserConfig.published(7))
    with pytest.raises(ArgumentError, match="width"):
        HeteroDenoiser(4, 3, DenoiserConfig(residual=True))
    chain = HeteroDenoiser(4, 3, DenoiserConfig(hidden=8))
    with pytest.raises(ArgumentError, match="source has shape"):
        chain.sample(torch.ones(5, 4))
    with pytest.raises(ArgumentError, match="target has shape"):
        chain.estimate(torch.ones(5, 3), torch.ones(5, 3), Key(0, torch.arange(5)))
