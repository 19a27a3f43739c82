"""Sparse products of one pattern: values, gradients, and what is stored on the way."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.sparse import Pattern


def random_pattern(n: int, m: int, share: float, seed: int) -> tuple[Pattern, np.random.Generator]:
    rng = np.random.default_rng(seed)
    matrix = sp.coo_matrix(rng.random((n, m)) < share)
    return Pattern.from_scipy(matrix)[0], rng


@settings(deadline=None)
@given(
    n=st.integers(1, 9),
    m=st.integers(1, 9),
    share=st.floats(0, 1),
    seed=st.integers(0, 999),
    width=st.integers(1, 4),
)
def test_product_and_sample_equal_the_dense_ones(n, m, share, seed, width):
    pattern, rng = random_pattern(n, m, share, seed)
    values = torch.from_numpy(rng.standard_normal(pattern.nnz))
    x = torch.from_numpy(rng.standard_normal((m, width)))
    y = torch.from_numpy(rng.standard_normal((n, width)))
    dense = pattern.dense(values)
    torch.testing.assert_close(pattern.matmul(values, x), dense @ x)
    torch.testing.assert_close(pattern.matmul(values, x[:, 0]), dense @ x[:, 0])
    torch.testing.assert_close(pattern.sample(y, x), (y @ x.T)[pattern.row, pattern.col])
    torch.testing.assert_close(pattern.transposed.dense(values[pattern.turn]), dense.T)


def test_gradients_to_values_and_features_and_their_gradients():
    pattern, rng = random_pattern(6, 5, 0.5, 3)
    values = torch.from_numpy(rng.standard_normal(pattern.nnz)).requires_grad_()
    x = torch.from_numpy(rng.standard_normal((5, 3))).requires_grad_()
    y = torch.from_numpy(rng.standard_normal((6, 3))).requires_grad_()
    assert torch.autograd.gradcheck(pattern.matmul, (values, x))
    assert torch.autograd.gradgradcheck(pattern.matmul, (values, x))
    assert torch.autograd.gradcheck(pattern.sample, (y, x))
    assert torch.autograd.gradgradcheck(pattern.sample, (y, x))


def test_gradient_equals_gather_and_scatter():
    pattern, rng = random_pattern(40, 40, 0.2, 1)
    values = torch.from_numpy(rng.standard_normal(pattern.nnz)).requires_grad_()
    x = torch.from_numpy(rng.standard_normal((40, 8))).requires_grad_()
    weight = torch.from_numpy(rng.standard_normal((40, 8)))
    ours = torch.autograd.grad((weight * pattern.matmul(values, x)).sum(), (values, x))
    gathered = torch.zeros(40, 8, dtype=torch.float64).index_add(
        0, pattern.row, values[:, None] * x[pattern.col]
    )
    theirs = torch.autograd.grad((weight * gathered).sum(), (values, x))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_nothing_as_large_as_edges_times_features_is_saved():
    """The point of the kernel: what autograd keeps is the values and the features."""
    pattern, rng = random_pattern(30, 30, 0.9, 2)
    values = torch.ones(pattern.nnz, requires_grad=True)
    x = torch.from_numpy(rng.standard_normal((30, 16))).float().requires_grad_()
    kept: list[int] = []

    def note(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        pattern.matmul(values, x).sum().backward()
    assert sum(kept) == pattern.nnz + x.numel()
    assert pattern.nnz * 16 > 8 * sum(kept)


def test_from_scipy_adds_duplicates_and_keeps_empty_rows():
    matrix = sp.coo_matrix(([1.0, 2.0, 5.0], ([0, 0, 3], [1, 1, 0])), (4, 2))
    pattern, values = Pattern.from_scipy(matrix)
    assert pattern.nnz == 2
    np.testing.assert_array_equal(pattern.dense(values).numpy(), matrix.toarray())


def test_empty_pattern():
    none = torch.zeros(0, dtype=torch.long)
    pattern = Pattern.of(none, none, (3, 2))
    assert pattern.matmul(torch.zeros(0), torch.ones(2, 4)).abs().sum() == 0


@pytest.mark.parametrize(
    ("row", "col", "message"),
    [
        ([0, 0], [1, 1], "each once"),
        ([1, 0], [0, 0], "sorted"),
        ([0, 3], [0, 0], "outside"),
        ([0, 1], [0], "one length"),
        ([-1, 0], [0, 0], "outside"),
    ],
)
def test_bad_patterns_are_refused(row, col, message):
    with pytest.raises(ArgumentError, match=message):
        Pattern.of(torch.tensor(row), torch.tensor(col), (3, 2))


def test_wrong_shapes_are_refused():
    pattern, _ = random_pattern(4, 3, 0.5, 0)
    with pytest.raises(ArgumentError, match="cannot multiply"):
        pattern.matmul(torch.ones(pattern.nnz + 1), torch.ones(3, 2))
    with pytest.raises(ArgumentError, match="cannot multiply"):
        pattern.matmul(torch.ones(pattern.nnz), torch.ones(4, 2))
    with pytest.raises(ArgumentError, match="factors"):
        pattern.sample(torch.ones(4, 2), torch.ones(3, 3))
