"""The mean of several predictors: values, gradients, common targets, errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from graphdiff.core.errors import ArgumentError
from graphdiff.core.state import State
from graphdiff.sequence.alphabet import DNA, PROTEIN
from graphdiff.sequence.ensemble import Ensemble
from graphdiff.sequence.oracles import GGSNetwork, GGSOracle, OracleReward, predict_sequences
from graphdiff.sequence.sequences import Sequences


def member(seed: int) -> GGSOracle:
    torch.manual_seed(seed)
    net = GGSNetwork(8).requires_grad_(False)
    return GGSOracle(f"m{seed}", net, torch.arange(20))


def some(n: int = 5) -> Sequences:
    return Sequences.from_dense(np.random.default_rng(0).integers(0, 20, (n, 9)), PROTEIN)


def test_it_predicts_the_mean_and_is_called_after_its_members() -> None:
    parts = tuple(member(k) for k in range(3))
    both = Ensemble(parts)
    expected = np.mean([predict_sequences(p, some()) for p in parts], axis=0)
    assert np.allclose(predict_sequences(both, some()), expected, atol=1e-6)
    assert np.array_equal(
        predict_sequences(Ensemble(parts[:1]), some()), predict_sequences(parts[0], some())
    )
    assert (both.name, Ensemble(parts, "mine").name) == ("m0+m1+m2", "mine")
    assert both.alphabet == PROTEIN


def test_targets_are_the_common_ones_wherever_they_stand() -> None:
    class Turned(GGSOracle):
        def __call__(self, tokens: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            return super().__call__(tokens, mask).flip(1)

    one = member(0)
    other = Turned("turned", one.net, one.order, ("normalised", "fitness"))
    assert np.allclose(
        predict_sequences(Ensemble((one, other)), some()), predict_sequences(one, some())
    )
    less = Ensemble((other, replace(one, targets=("fitness",))))
    assert less.targets == ("fitness",)
    assert np.allclose(predict_sequences(less, some())[:, 0], predict_sequences(one, some())[:, 0])


def test_it_is_a_differentiable_reward() -> None:
    both = Ensemble((member(0), member(1)))
    reward = OracleReward(both, "normalised", alphabet=PROTEIN)
    tokens = torch.from_numpy(some().dense()[0])
    weights = F.one_hot(tokens, 20).float().requires_grad_()
    (found,) = torch.autograd.grad(
        reward(State({"tokens": weights}, {}, torch.arange(5))).sum(), weights
    )
    each = []
    for one in both.members:
        w = F.one_hot(tokens, 20).float().requires_grad_()
        each.append(torch.autograd.grad(one(w)[:, 1].sum(), w)[0])
    assert torch.allclose(found, torch.stack(each).mean(0), atol=1e-7)
    assert found.abs().max() > 0


def test_errors() -> None:
    class Bases(GGSOracle):
        alphabet = DNA  # type: ignore[assignment]

    one = member(0)
    with pytest.raises(ArgumentError, match="no members"):
        Ensemble(())
    with pytest.raises(ArgumentError, match="dna and protein; choose predictors of one alphabet"):
        Ensemble((one, Bases("bases", one.net, one.order)))
    with pytest.raises(ArgumentError, match="nothing in common: fitness, normalised; colour"):
        Ensemble((one, replace(one, targets=("colour",))))
