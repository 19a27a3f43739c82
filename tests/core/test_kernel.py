"""Kernels: densities, divergences and draws against torch.distributions and their own law."""

from __future__ import annotations

import pytest
import torch
from stats import accepted, chi2_pvalue, ks_pvalue, rejected

from graphdiff.core.errors import ArgumentError
from graphdiff.core.kernel import Categorical, Delta, Normal, sample_all
from graphdiff.core.rng import Key
from graphdiff.core.space import Dense, Symmetric, Upper, ZeroMean

F64 = torch.float64
KEY = Key(0, torch.arange(3))


def lengths(sizes: list[int], n: int) -> torch.Tensor:
    return torch.arange(n) < torch.tensor(sizes)[:, None]


def normal(key: Key, space, shape, mask, std) -> Normal:
    return Normal(space.normal(key, shape, mask, F64), std, space, mask)


@pytest.mark.parametrize("space", [Dense(), Symmetric(), Upper()])
@pytest.mark.parametrize("mask", [None, lengths([1, 2, 4], 4)])
@pytest.mark.parametrize("std", [0.7, torch.tensor([0.3, 0.7, 2.0], dtype=F64)])
def test_normal_density_and_divergence(space, mask, std):
    shape = (3, 4, 4)
    p, q = (normal(KEY.at(step=i), space, shape, mask, std) for i in range(2))
    wide = Normal(q.mean, 1.3, space, mask)
    x = p.sample(KEY.at(step=5))
    scale = std if isinstance(std, float) else std.view(3, 1, 1)
    law = torch.distributions.Normal(p.mean, torch.as_tensor(scale, dtype=F64))
    torch.testing.assert_close(p.log_prob(x), space.sum(law.log_prob(x).expand(shape), mask))
    other = torch.distributions.Normal(wide.mean, torch.tensor(1.3, dtype=F64))
    kl = torch.distributions.kl_divergence(law, other).expand(shape)
    torch.testing.assert_close(p.kl(wide), space.sum(kl, mask))
    assert not p.kl(p).any()


def test_normal_with_a_std_for_each_entry():
    std = torch.rand(3, 4, 2, dtype=F64, generator=torch.Generator().manual_seed(0)) + 0.1
    p = Normal(torch.zeros(3, 4, 2, dtype=F64), std, Dense(), None)
    x = p.sample(KEY)
    law = torch.distributions.Normal(0.0, std)
    torch.testing.assert_close(p.log_prob(x), law.log_prob(x).flatten(1).sum(1))


def test_zero_mean_density_is_on_the_subspace():
    """Against a normal law in an orthonormal basis of the subspace, padded and not."""
    p = normal(KEY, ZeroMean(), (3, 4, 2), lengths([2, 4, 4], 4), 0.5)
    x = p.sample(KEY.at(step=1))
    for b, n in enumerate((2, 4, 4)):
        basis = torch.linalg.svd(torch.ones(1, n, dtype=F64)).Vh[1:]
        part = basis @ x[b, :n]
        law = torch.distributions.Normal(basis @ p.mean[b, :n], torch.tensor(0.5, dtype=F64))
        torch.testing.assert_close(p.log_prob(x)[b], law.log_prob(part).sum())


def test_normal_law_and_gradient():
    key = Key(0, torch.arange(2000))
    mean = torch.full((2000, 3), 2.0, requires_grad=True)
    x = Normal(mean, 1.5, Dense(), None).sample(key)
    assert accepted(ks_pvalue((x.detach() - 2) / 1.5))
    assert rejected(ks_pvalue((x.detach() - 2 * 1.05) / 1.5))
    x.sum().backward()
    assert torch.equal(mean.grad, torch.ones_like(mean))


def logits(shape: tuple[int, ...], space=None) -> torch.Tensor:
    x = torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(1))
    return x if space is None else (x + x.transpose(1, 2)) / 2


@pytest.mark.parametrize("space", [Dense(), Symmetric(), Upper()])
def test_categorical_density_and_divergence(space):
    mask = lengths([1, 3, 4], 4)
    p = Categorical(logits((3, 4, 4, 5), space), space, mask)
    q = Categorical(logits((3, 4, 4, 5), space).flip(-1), space, mask)
    x = p.sample(KEY)
    law = torch.distributions.Categorical(logits=p.logits)
    torch.testing.assert_close(p.log_prob(x), space.sum(law.log_prob(x), mask))
    kl = torch.distributions.kl_divergence(law, torch.distributions.Categorical(logits=q.logits))
    torch.testing.assert_close(p.kl(q), space.sum(kl, mask))
    assert p.noise_size == space.size((3, 4, 4))


def test_excluded_classes():
    p = Categorical(torch.tensor([[[0.0, -torch.inf, 0.0]]]).expand(3, 50, 3), Dense(), None)
    q = Categorical(torch.zeros(3, 50, 3), Dense(), None)
    assert not (p.sample(KEY) == 1).any()
    torch.testing.assert_close(p.kl(q), 50 * torch.tensor(1.5).log().expand(3))
    assert q.kl(p).isinf().all()
    assert not p.kl(p).any()


@pytest.mark.parametrize("space", [Dense(), Symmetric()])
def test_categorical_law(space):
    samples, classes = 8000, 4
    scores = torch.tensor([0.3, -0.5, 1.0, -1.5]).expand(samples, 4, 4, classes)
    key = Key(0, torch.arange(samples))
    kernel = Categorical(scores, space, None)
    probs = kernel.mean[0, 0, 0]
    soft = kernel.relaxed(key, 0.5)
    for x in (kernel.sample(key), soft.argmax(-1)):
        counts = space.gather(x).flatten().bincount(minlength=classes)
        assert accepted(chi2_pvalue(counts, probs))
        mutant = probs * torch.tensor([1, 1, 1.05, 1])
        assert rejected(chi2_pvalue(counts, mutant / mutant.sum()))


def test_float64_draws_reach_rare_classes():
    """Class 1 has probability 2**-30; its cell must be where the uniform says."""
    p = 2.0**-30
    kernel = Categorical(torch.tensor([[[1 - p, p]]], dtype=F64).log(), Dense(), None)
    assert kernel.push(torch.tensor([[1 - 1.01 * p]], dtype=F64)).item() == 0
    assert kernel.push(torch.tensor([[1 - 0.99 * p]], dtype=F64)).item() == 1
    assert kernel.noise_dtype == F64


def test_padding_and_diagonal_are_class_zero():
    mask = lengths([1, 2, 4], 4)
    kernel = Categorical(torch.tensor([-9.0, 0, 0, 0]).expand(3, 4, 4, 4), Symmetric(), mask)
    real = Symmetric().apply_mask(torch.ones(3, 4, 4), mask).bool()
    for x in (kernel.sample(KEY), kernel.mode, kernel.relaxed(KEY, 1.0).argmax(-1)):
        assert torch.equal(x, x.transpose(1, 2))
        assert not x[~real].any()
        assert (x[real] > 0).all()
    weights = kernel.relaxed(KEY, 1.0, hard=False)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4, 4))


def test_straight_through_gradient():
    """Hard and soft draws have one gradient; at low temperature it estimates the true one."""
    scores = torch.tensor([0.2, -0.4, 0.9], dtype=F64, requires_grad=True)
    reward = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    key = Key(0, torch.arange(20000))
    grads = []
    for hard in (True, False):
        kernel = Categorical(scores.expand(20000, 1, 3), Dense(), None)
        draw = kernel.relaxed(key, 0.3, hard=hard)
        grads.append(torch.autograd.grad((draw * reward).sum(-1).mean(), scores)[0])
        if hard:
            assert torch.equal(draw.detach().round(), torch.eye(3, dtype=F64)[draw.argmax(-1)])
    torch.testing.assert_close(*grads)
    exact = torch.autograd.grad((torch.softmax(scores, 0) * reward).sum(), scores)[0]
    # The soft reward at temperature 0.3 has a bias of a few percent.
    assert torch.dot(grads[0], exact) / (grads[0].norm() * exact.norm()) > 0.99
    assert (grads[0] - exact).abs().max() < 0.15
    with pytest.raises(ArgumentError, match="temperature"):
        Categorical(torch.zeros(1, 1, 2), Dense(), None).relaxed(KEY.select([0]), -0.1)
    # At temperature 0 one-hot values have the gradient of the probabilities, without any noise.
    kernel = Categorical(scores.expand(20000, 1, 3), Dense(), None)
    draw = kernel.relaxed(key, 0.0)
    assert torch.equal(draw.detach(), torch.eye(3, dtype=F64)[draw.argmax(-1)])
    torch.testing.assert_close(
        torch.autograd.grad((draw * reward).sum(-1).mean(), scores)[0], exact
    )


def test_delta():
    value = torch.tensor([[1.0], [2.0], [3.0]])
    kernel = Delta(value)
    other = Delta(value + torch.tensor([[0.0], [1.0], [0.0]]))
    assert kernel.sample(KEY) is value
    assert kernel.noise_size == 0
    assert kernel.kl(other).tolist() == [0, torch.inf, 0]
    assert kernel.log_prob(value).tolist() == [0, 0, 0]


def test_families_do_not_mix():
    a = Normal(torch.zeros(3, 4, 4), 1.0, Dense(), None)
    b = Normal(torch.zeros(3, 4, 4), 1.0, Symmetric(), None)
    c = Categorical(torch.zeros(3, 4, 4), Dense(), None)
    for p, q in ((a, b), (a, c), (c, a), (Delta(a.mean), a), (a, Delta(a.mean))):
        with pytest.raises(ArgumentError, match="no divergence"):
            p.kl(q)


def test_sample_all_equals_single_draws():
    kernels = {
        "x": Normal(torch.zeros(3, 4, 2), 0.5, Dense(), None),
        "adj": Categorical(torch.zeros(3, 4, 4, 2), Symmetric(), None),
        "pos": Normal(torch.zeros(3, 4, 3, dtype=F64), 2.0, ZeroMean(), None),
        "fixed": Delta(torch.ones(3)),
    }
    drawn = sample_all(kernels, KEY)
    assert list(drawn) == list(kernels)
    for name, kernel in kernels.items():
        assert torch.equal(drawn[name], kernel.sample(KEY.at(stream=name)))


@pytest.mark.parametrize("space", [Dense(), Symmetric(), Upper()])
def test_categorical_of_weights_is_that_of_their_logarithms(space):
    shape = (3, 4) if space == Dense() else (3, 4, 4)
    mask = torch.arange(4) < torch.tensor([4, 2, 3])[:, None]
    key = Key(0, torch.arange(3))
    size = space.size(shape)
    weights = key.uniform(size * 5).view(3, size, 5)
    weights[:, 0, 2] = 0
    short = Categorical.of_weights(weights, shape, space, mask)
    logits = space.scatter(weights.log().flatten(1), (*shape, 5))
    full = Categorical(logits, space, mask)
    assert short.shape == full.shape == shape
    assert short.noise_size == full.noise_size == size
    x = full.sample(key)
    assert torch.equal(short.sample(key), x)
    assert torch.equal(short.mode, full.mode)
    torch.testing.assert_close(short.log_prob(x), full.log_prob(x))
    torch.testing.assert_close(short.kl(full), torch.zeros(3), atol=1e-6, rtol=0)
    soft = short.relaxed(key, 0.5), full.relaxed(key, 0.5)
    torch.testing.assert_close(*soft)
