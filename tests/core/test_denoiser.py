"""Parametrisations invert their targets; the denoiser answers in clean, masked data."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from exact_discrete import ExactDiscrete, random_law
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from graphdiff.core import denoiser as d
from graphdiff.core.categorical import Absorbing, Marginal, Uniform
from graphdiff.core.ctmc import CTMC
from graphdiff.core.errors import ArgumentError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.process import Process, Product
from graphdiff.core.rng import Key
from graphdiff.core.schedule import VE, VP, Cosine, FlowMatching, Schedule, SquaredCosine, SubVP
from graphdiff.core.space import Dense, Symmetric
from graphdiff.core.state import State

CONTINUOUS = [d.Eps(), d.X0(), d.V(), d.Score(), d.EDM(), d.EDM(0.5)]
SCHEDULES = [VP(), SubVP(), VE(0.2, 5.0), Cosine(), FlowMatching()]


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(CONTINUOUS),
    st.sampled_from(SCHEDULES),
    st.lists(st.floats(0.01, 0.99), min_size=3, max_size=3),
)
def test_target_inverts(part: d.Parametrization, schedule: Schedule, times: list[float]) -> None:
    process = Gaussian(schedule, data_std=0.7)
    key = Key(0, torch.arange(3))
    x0 = key.normal(4, torch.float64)
    t = torch.tensor(times).double()
    x = process.corrupt(x0, t, None, key.at(step=1))
    out = part.target(process, x0, x, t)
    torch.testing.assert_close(part.to_x0(process, out, x, t), x0, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_targets_mean_what_they_say(schedule: Schedule) -> None:
    process, t = Gaussian(schedule), torch.tensor([0.3, 0.8]).double()
    x0, eps = torch.randn(2, 5).double(), torch.randn(2, 5).double()
    a, s = process.coefficients(t, x0)
    x = a * x0 + s * eps
    torch.testing.assert_close(d.Eps().target(process, x0, x, t), eps)
    torch.testing.assert_close(d.Score().target(process, x0, x, t), -eps / s)
    torch.testing.assert_close(d.V().target(process, x0, x, t), a * eps - s * x0)


def test_edm_has_unit_variance_and_survives_both_ends() -> None:
    process, part = Gaussian(FlowMatching(), data_std=2.0), d.EDM()
    x0, eps = 2 * torch.randn(20000, 1).double(), torch.randn(20000, 1).double()
    for t in (0.0, 0.3, 1.0):
        clock = torch.tensor(t).double()
        a, s = process.coefficients(clock, x0)
        x = a * x0 + s * eps
        assert float(part.inputs(process, x, clock).std()) == pytest.approx(1, rel=0.03)
        assert bool(part.to_x0(process, x, x, clock).isfinite().all())
        if t:
            assert float(part.target(process, x0, x, clock).std()) == pytest.approx(1, rel=0.03)


def test_subs_excludes_the_mask_and_carries_over() -> None:
    out = torch.randn(2, 3, 4)
    x = torch.tensor([[3, 0, 3], [2, 3, 1]])
    p = torch.softmax(d.Subs().to_x0(None, out, x, torch.tensor(0.5)), -1)
    assert bool((p[..., 3] == 0).all())
    hidden = x == 3
    assert torch.equal(p[~hidden].argmax(-1), x[~hidden])
    assert torch.equal(p[~hidden].amax(-1), torch.ones(3))
    torch.testing.assert_close(p[hidden][:, :3], torch.softmax(out[hidden][:, :3], -1))


MIXING = [Uniform(FlowMatching(), 3), Marginal(SquaredCosine(), (0.2, 0.5, 0.3))]


def cavity(exact: ExactDiscrete, t: float) -> Tensor:
    """Logits of ``p(x0_i | x_t of the others)`` by summing over all clean strings.

    ``[S, tokens, K]``; each token gets its own constant, which must not matter.
    """
    states, token = exact.states, exact.token(t, alpha_s=1.0)
    out = torch.zeros(len(states), exact.tokens, exact.classes, dtype=torch.float64)
    for i in range(exact.tokens):
        others = [j for j in range(exact.tokens) if j != i]
        # q(x_t of the others | x0) at [x_t, x0]
        seen = torch.stack([token[states[:, j]][:, states[:, j]].T for j in others]).prod(0)
        for k in range(exact.classes):
            out[:, i, k] = (seen * exact.law)[:, states[:, i] == k].sum(1)
        out[:, i] = out[:, i].log() + 3.0 * i - 1.0
    return out


@pytest.mark.parametrize("process", MIXING, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("t", [0.02, 0.4, 0.9, 1.0])
def test_bayes_turns_the_word_of_the_others_into_the_posterior(process: CTMC, t: float) -> None:
    """Three correlated tokens, all 27 noisy strings: equal to the sum over all clean strings."""
    exact = ExactDiscrete(process, random_law(3, 3), 3)
    clock = torch.tensor(t, dtype=torch.float64)
    logits = d.Bayes().to_x0(process, cavity(exact, t), exact.states, clock)
    found, expected = logits.softmax(-1), exact.denoiser(t).softmax(-1)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)
    # Logits with the same network would be wrong, except where nothing is left of the data.
    alone = d.Logits().to_x0(process, cavity(exact, t), exact.states, clock).softmax(-1)
    assert bool(((alone - expected).abs().max() > 0.02) == (t < 1))


@pytest.mark.parametrize("process", MIXING, ids=lambda p: type(p).__name__)
def test_bayes_is_certain_of_clean_tokens(process: CTMC) -> None:
    """Whatever the network says, and finite; in one call for samples at different times."""
    out = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)) * 3
    x = torch.tensor([[0, 1, 2, 1, 0], [2, 2, 1, 0, 0]])
    logits = d.Bayes().to_x0(process, out, x, torch.tensor([0.0, 1.0]))
    assert bool(logits.isfinite().all())
    # 1e-6 is what the parametrisation leaves; the network's own odds of e^18 are on top of it.
    assert bool((logits[0].argmax(-1) == x[0]).all())
    torch.testing.assert_close(logits[1], out[1], atol=1e-5, rtol=0)
    tame = d.Bayes().to_x0(process, out / 10, x, torch.tensor(0.0)).softmax(-1)
    assert float(tame.gather(-1, x.unsqueeze(-1)).min()) > 1 - 1e-4


def test_bayes_needs_noise_that_reaches_every_class() -> None:
    out, x, t = torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.int64), torch.tensor(0.5)
    for process in (Absorbing(FlowMatching(), 3), Gaussian(VP())):
        with pytest.raises(ArgumentError, match=type(process).__name__):
            d.Bayes().to_x0(process, out, x, t)


def test_bayes_on_pairs_masks_like_any_other() -> None:
    """Through the denoiser, on a symmetric component: zero at padding, symmetric elsewhere."""
    process = Product({"adj": Uniform(FlowMatching(), 3, Symmetric())})

    class Net(nn.Module):
        def forward(self, values: Any, label: Tensor, masks: Any, cond: Any) -> dict[str, Tensor]:
            return {"adj": torch.zeros(*values["adj"].shape, 3)}

    adj = torch.tensor([[[0, 2, 0], [2, 0, 0], [0, 0, 0]]])
    mask = torch.tensor([[True, True, False]])
    net = d.Denoiser(Net(), process, {"adj": d.Bayes()})
    out = net(State({"adj": adj}, {"adj": mask}, torch.arange(1)), torch.tensor([0.5]))["adj"]
    expected = torch.zeros(1, 3, 3, 3)
    expected[0, 0, 1, 2] = expected[0, 1, 0, 2] = torch.log(torch.tensor(4.0))
    torch.testing.assert_close(out, expected)


class Echo(nn.Module):
    """Returns what it is shown and remembers the label."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.label: Tensor | None = None

    def forward(
        self, values: Mapping[str, Tensor], label: Tensor, masks: Mapping[str, Tensor], cond: Any
    ) -> dict[str, Tensor]:
        self.label = label.detach()
        return {name: self.weight * (value + 1) for name, value in values.items()}


def _graph() -> tuple[Product, State]:
    process = Product({"x": Gaussian(VP()), "adj": Gaussian(VE(0.2, 1.0), Symmetric())})
    mask = torch.tensor([[True, True, True], [True, True, False]])
    x = torch.randn(2, 3, 4) * mask[..., None]
    adj = Symmetric().project(torch.randn(2, 3, 3), mask)
    return process, State({"x": x, "adj": adj}, {"x": mask, "adj": mask}, torch.arange(2))


def test_denoiser_masks_and_converts() -> None:
    process, state = _graph()
    net = d.Denoiser(Echo(), process, {"x": d.Eps(), "adj": d.Score()})
    t = torch.tensor([0.4, 0.7])
    answer = net(state, t)
    for name, space in (("x", Dense()), ("adj", Symmetric())):
        torch.testing.assert_close(space.project(answer[name], state.mask(name)), answer[name])
    part = process["x"]
    a, s = part.coefficients(t, state["x"])
    expected = (state["x"] - s * (state["x"] + 1)) / a
    torch.testing.assert_close(answer["x"], expected * state.mask("x")[..., None])
    answer["adj"].sum().backward()
    assert net.net.weight.grad is not None
    assert copy.deepcopy(net).process == process


@pytest.mark.parametrize("time_input", ["t", "sigma", "log_snr"])
def test_shared_and_repeated_times_agree(time_input: str) -> None:
    process, state = _graph()
    net = d.Denoiser(Echo(), process, {"x": d.Eps(), "adj": d.Score()}, time_input, "adj")
    each = net(state, torch.tensor([0.4, 0.4]))
    label = net.net.label
    for t in (torch.tensor(0.4), torch.tensor([0.4]), torch.tensor(0.4).expand(2)):
        answer = net(state, t)
        for name, value in each.items():
            torch.testing.assert_close(answer[name], value)
        assert net.net.label.shape == (2,)
        torch.testing.assert_close(net.net.label, label)
    schedule = process["adj"].schedule
    meaning = {"t": 0.4, "sigma": schedule.sigma(0.4), "log_snr": schedule.log_snr(0.4)}
    assert float(label[0]) == pytest.approx(float(meaning[time_input]), rel=1e-6)


@dataclass(frozen=True)
class Frozen(Process):
    """A process without Gaussian coefficients."""

    space: Dense = field(default_factory=Dense)

    def prior(self, like: Tensor, mask: Tensor | None, key: Key) -> Tensor:
        return like

    def corrupt(self, x0: Tensor, t: Tensor, mask: Tensor | None, key: Key) -> Tensor:
        return x0

    def bridge(self, x_t: Tensor, x0: Tensor, t: Any, s: Any, mask: Tensor | None) -> Any:
        raise NotImplementedError

    def loss(self, x0_pred: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, mask: Any) -> Tensor:
        raise NotImplementedError


def test_bad_arguments_are_named() -> None:
    process, _ = _graph()
    both = {"x": d.Eps(), "adj": d.Score()}
    with pytest.raises(ArgumentError, match="one for each"):
        d.Denoiser(Echo(), process, {"x": d.Eps()})
    with pytest.raises(ArgumentError, match="time_input"):
        d.Denoiser(Echo(), process, both, "beta")
    with pytest.raises(ArgumentError, match="nodes"):
        d.Denoiser(Echo(), process, both, "sigma", "nodes")
    with pytest.raises(ArgumentError, match="Eps needs a Gaussian"):
        d.Eps().to_x0(Frozen(), torch.zeros(1), torch.zeros(1), torch.zeros(1))
