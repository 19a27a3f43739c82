"""Half storage: numbering, and both ways of contracting against plain sums in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graphdiff.core.space import Symmetric
from graphdiff.graph.nets import half

PATHS = {"vectors": 100, "matrices": 0}


def draws(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def symmetric(b: int, n: int, c: int, seed: int = 0) -> Tensor:
    """Symmetric ``[b, n, n, c]`` with a zero diagonal."""
    upper = draws(b, n, n, c, seed=seed) * torch.ones(n, n).triu(1)[:, :, None]
    return upper + upper.transpose(1, 2)


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_half_and_full_are_inverses(n: int) -> None:
    full = symmetric(2, n, 3)
    stored = half.to_half(full)
    assert stored.shape == (2, n * (n - 1) // 2, 3)
    assert torch.equal(half.to_full(stored, n), full)
    eye = torch.eye(n, dtype=torch.bool)[None, :, :, None]
    assert torch.equal(half.to_full(stored, n, -7.5), torch.where(eye, -7.5, full))
    assert torch.equal(half.to_half(half.to_full(stored, n, 4.0)), stored)


def test_pairs_are_numbered_as_the_space_numbers_them() -> None:
    full = symmetric(2, 6, 4)
    expected = Symmetric().gather(full).reshape(2, 15, 4)
    assert torch.equal(half.to_half(full), expected)
    i, j = half.pair_ends(6, full.device)
    assert (j * (j - 1) // 2 + i).tolist() == list(range(15))
    assert bool((i < j).all())


def test_the_entry_above_the_diagonal_counts() -> None:
    full = draws(1, 4, 4, 1)
    stored = half.to_half(full)[0, :, 0]
    expected = [full[0, i, j, 0] for j in range(4) for i in range(j)]
    assert stored.tolist() == expected


def test_integer_classes_without_channels() -> None:
    adj = symmetric(2, 5, 1).mul(3).long().squeeze(-1)
    assert torch.equal(half.to_half(adj), Symmetric().gather(adj))


def test_longer_padding_only_appends_pairs() -> None:
    full = symmetric(2, 9, 3)
    assert torch.equal(half.to_half(full)[:, :15], half.to_half(full[:, :6, :6]))


def test_ends_and_sums_of_pairs() -> None:
    x, full = draws(2, 7, 3), symmetric(2, 7, 5)
    first, second = half.between(x)
    ends = [(i, j) for j in range(7) for i in range(j)]
    for k, (i, j) in enumerate(ends):
        assert torch.equal(first[:, k], x[:, i])
        assert torch.equal(second[:, k], x[:, j])
    torch.testing.assert_close(half.incident(half.to_half(full), 7), full.sum(2))


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, heads: int) -> Tensor:
    """Softmax attention, written out."""
    qh, kh, vh = (x.unflatten(2, (heads, -1)) for x in (q, k, v))
    weights = torch.softmax(torch.einsum("bihd,bjhd->bijh", qh, kh) + bias, 2)
    return torch.einsum("bijh,bjhe->bihe", weights, vh).flatten(2)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("heads", "width", "out"), [(1, 3, 3), (2, 4, 5), (4, 1, 2)])
def test_attention_and_its_gradient(
    monkeypatch: pytest.MonkeyPatch, path: str, heads: int, width: int, out: int
) -> None:
    monkeypatch.setattr(half, "VECTOR_NODES", PATHS[path])
    b, n = 3, 6
    q, k = draws(b, n, heads * width, seed=1), draws(b, n, heads * width, seed=2)
    v, bias = draws(b, n, heads * out, seed=3), draws(b, n, n, heads, seed=4)
    hidden = torch.arange(n) >= torch.tensor([6, 4, 1])[:, None]
    bias = bias.masked_fill(hidden[:, None, :, None], -1e9)
    inputs = [x.requires_grad_() for x in (q, k, v, bias)]
    weight = draws(b, n, heads * out, seed=5)
    found, expected = half.attend(*inputs, heads), attention(*inputs, heads)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    gradients = torch.autograd.grad((found * weight).sum(), inputs)
    wanted = torch.autograd.grad((expected * weight).sum(), inputs)
    for g, w in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(g, w, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("path", PATHS)
def test_hidden_nodes_are_never_attended_to(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(half, "VECTOR_NODES", PATHS[path])
    q, k, v = (draws(2, 5, 4, seed=s) for s in range(3))
    bias = draws(2, 5, 5, 2)
    bias[:, :, 3:] = -1e9
    before = half.attend(q, k, v, bias, 2)
    k[:, 3:], v[:, 3:] = 50.0, -50.0
    assert torch.equal(half.attend(q, k, v, bias, 2), before)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("n", [2, 7])
def test_paths_of_length_two_and_their_gradient(
    monkeypatch: pytest.MonkeyPatch, path: str, n: int
) -> None:
    monkeypatch.setattr(half, "VECTOR_NODES", PATHS[path])
    f, g = symmetric(2, n, 3, 1).requires_grad_(), symmetric(2, n, 3, 2).requires_grad_()
    found = half.square(f, g)
    products = torch.einsum("bikc,bkjc->bijc", f, g) + torch.einsum("bikc,bkjc->bijc", g, f)
    expected = half.to_half(products)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    weight = draws(*found.shape, seed=3)
    gradients = torch.autograd.grad((found * weight).sum(), (f, g))
    wanted = torch.autograd.grad((expected * weight).sum(), (f, g))
    # Along symmetric directions: only there are the two the same function.
    for a, b in zip(gradients, wanted, strict=True):
        both = (a + a.transpose(1, 2), b + b.transpose(1, 2))
        torch.testing.assert_close(*both, atol=1e-12, rtol=1e-12)


def test_both_paths_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threshold decides by the number of nodes; the answers of both sides agree."""
    used: list[str] = []
    spread, product = half.spread, torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(half, "spread", lambda *a: (used.append("vectors"), spread(*a))[1])
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *a, **k: (used.append("matrices"), product(*a, **k))[1],
    )
    for n in (half.VECTOR_NODES, half.VECTOR_NODES + 1):
        x, bias = draws(1, n, 4), draws(1, n, n, 2)
        torch.testing.assert_close(half.attend(x, x, x, bias, 2), attention(x, x, x, bias, 2))
    assert used == ["vectors", "matrices"]
