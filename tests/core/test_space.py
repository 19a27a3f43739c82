"""Spaces: each free coordinate once, numbering that padding does not touch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stats import accepted, moments_pvalue, rejected

from graphdiff.core.errors import ArgumentError
from graphdiff.core.rng import Key
from graphdiff.core.space import Dense, Symmetric, Upper, ZeroMean

PAIRS = [Symmetric(), Upper()]
SHAPES = [
    *[(space, shape) for space in PAIRS for shape in [(3, 5, 5), (3, 4, 4, 2), (3, 1, 1)]],
    (Dense(), (3, 5)),
    (Dense(), (3, 5, 2)),
    (Dense(), (3, 2, 4, 4)),
    (ZeroMean(), (3, 5, 2)),
]


def lengths(sizes: list[int], n: int) -> torch.Tensor:
    return torch.arange(n) < torch.tensor(sizes)[:, None]


@pytest.mark.parametrize(("space", "shape"), SHAPES)
def test_scatter_and_gather_are_inverse(space, shape):
    flat = Key(0, torch.arange(3)).normal(space.size(shape))
    x = space.scatter(flat, shape)
    assert x.shape == shape
    assert torch.equal(space.gather(x), flat)
    whole = (flat * 100).long()
    assert torch.equal(space.gather(space.scatter(whole, shape)), whole)


@pytest.mark.parametrize(("space", "shape"), SHAPES)
def test_count_sum_and_dimension(space, shape):
    x = space.normal(Key(0, torch.arange(3)), shape, None, torch.float64)
    assert space.count(shape, None).tolist() == [space.dimension(shape)] * 3
    torch.testing.assert_close(space.sum(x, None), space.gather(x).sum(1))
    mask = lengths([1, min(2, shape[1]), shape[1]], shape[1])
    for b, n in enumerate(mask.sum(1).tolist()):
        own = (1, *[n if axis in space.node_axes else shape[axis] for axis in range(1, len(shape))])
        assert int(space.count(shape, mask)[b]) == space.dimension(own)
        part = x[b : b + 1, :n, :n] if len(space.node_axes) == 2 else x[b : b + 1, :n]
        torch.testing.assert_close(space.sum(x, mask)[b : b + 1], space.sum(part, None))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 7), more=st.integers(0, 6), channels=st.sampled_from([(), (3,)]))
@pytest.mark.parametrize("space", [*PAIRS, Dense(), ZeroMean()])
def test_padding_does_not_change_noise(space, n, more, channels):
    key = Key(4, torch.tensor([9]))
    nodes = len(space.node_axes)
    own, padded = (1, *[n] * nodes, *channels), (1, *[n + more] * nodes, *channels)
    mask = lengths([n], n + more)
    noise = space.normal(key, padded, mask)
    inside = (slice(None), *[slice(n)] * nodes)
    torch.testing.assert_close(noise[inside], space.normal(key, own, None), atol=1e-6, rtol=0)
    outside = noise.clone()
    outside[inside] = 0
    assert not outside.any()


@pytest.mark.parametrize(("space", "shape"), SHAPES)
def test_projection(space, shape):
    x = Key(1, torch.arange(3)).normal(100000 // 3)[:, : torch.Size(shape[1:]).numel()]
    x = x.reshape(shape)
    for mask in (None, lengths([1, min(3, shape[1]), shape[1]], shape[1])):
        once = space.project(x, mask)
        torch.testing.assert_close(space.project(once, mask), once)
        noise = space.normal(Key(2, torch.arange(3)), shape, mask)
        torch.testing.assert_close(space.project(noise, mask), noise)
        # Orthogonal: what is removed has no component along members of the space.
        removed = ((x - once) * noise).flatten(1).sum(1)
        torch.testing.assert_close(removed, torch.zeros(3), atol=2e-5, rtol=0)


def test_structure():
    key = Key(0, torch.arange(2))
    a = Symmetric().normal(key, (2, 4, 4, 3), None)
    assert torch.equal(a, a.transpose(1, 2))
    assert not a.diagonal(dim1=1, dim2=2).any()
    u = Upper().normal(key, (2, 4, 4), None)
    assert torch.equal(u, u.triu(1))
    # Pair (i, j) is coordinate j (j - 1) / 2 + i.
    order = Upper().scatter(torch.arange(1, 7).expand(2, 6), (2, 4, 4))[0]
    assert order.tolist() == [[0, 1, 2, 4], [0, 0, 3, 5], [0, 0, 0, 6], [0, 0, 0, 0]]
    z = ZeroMean().normal(key, (2, 5, 3), lengths([2, 5], 5))
    torch.testing.assert_close(z.sum(1), torch.zeros(2, 3), atol=1e-6, rtol=0)


def test_categories_keep_their_type():
    x = torch.randint(0, 4, (2, 5, 5), generator=torch.Generator().manual_seed(0))
    fixed = Symmetric().project(x, lengths([3, 5], 5))
    assert fixed.dtype == torch.int64
    assert torch.equal(fixed, fixed.transpose(1, 2))
    assert torch.equal(fixed[1].triu(1), x[1].triu(1))
    assert not fixed[0, 3:].any()


def test_nan_at_padding_does_not_spread():
    x = torch.ones(1, 3, 3)
    x[0, 2] = x[0, :, 2] = torch.nan
    mask = lengths([2], 3)
    assert Symmetric().apply_mask(x, mask).isfinite().all()
    assert Symmetric().sum(x, mask).tolist() == [1.0]
    assert ZeroMean().project(x[:, :, :2], mask).isfinite().all()


def test_noise_law_counts_each_pair_once():
    samples = 4000
    noise = Symmetric().normal(Key(0, torch.arange(samples)), (samples, 3, 3), None)
    flat = Symmetric().gather(noise)
    zero, eye = torch.zeros(3), torch.eye(3)
    assert accepted(moments_pvalue(flat, zero, eye, repeats=1000))
    assert rejected(moments_pvalue(flat * 1.05, zero, eye, repeats=1000))
    # Averaging independent noise with its transpose, the common mistake, halves the variance.
    mistake = Symmetric().project(Dense().normal(Key(0, torch.arange(samples)), (samples, 3, 3), None), None)  # fmt: skip  # noqa: E501
    assert rejected(moments_pvalue(Symmetric().gather(mistake), zero, eye, repeats=1000))


def test_zero_mean_law():
    samples = 4000
    noise = ZeroMean().normal(Key(0, torch.arange(samples)), (samples, 3, 1), None).squeeze(-1)
    basis = torch.tensor([[1.0, -1, 0], [1, 1, -2]]).T / torch.tensor([2.0, 6.0]).sqrt()
    assert accepted(moments_pvalue(noise @ basis, torch.zeros(2), torch.eye(2), repeats=1000))


def test_tables_survive_inference_mode():
    """Sampling first and fine-tuning later: cached tables must not be inference tensors."""
    n = 23
    with torch.inference_mode():
        Symmetric().gather(Symmetric().normal(Key(0, torch.arange(1)), (1, n, n), None))
    x = torch.ones(1, n, n, requires_grad=True)
    Symmetric().gather(Symmetric().apply_mask(x, None)).sum().backward()
    assert int(x.grad.sum()) == n * (n - 1) // 2


def test_bad_shape():
    with pytest.raises(ArgumentError, match="node pairs"):
        Symmetric().size((2, 3, 4))
    with pytest.raises(ArgumentError, match="node pairs"):
        Upper().gather(torch.ones(2, 3))
