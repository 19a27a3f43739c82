"""Similar nodes: against dense answers, and how much is held at a time."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.robust.similarity import edge_cosine, edge_jaccard, top_k


class Watch(TorchDispatchMode):
    """Largest tensor made, and how many matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.largest, self.products = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple) else (found,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        self.products += func is torch.ops.aten.mm.default
        return found


def test_jaccard_is_that_of_the_sets() -> None:
    rng = np.random.default_rng(0)
    words = rng.integers(0, 3, (40, 12)) * (rng.random((40, 12)) < 0.4)  # counts, not only 0 / 1
    words[:2] = 0
    u, v = rng.integers(0, 40, (2, 200))
    u[0], v[0] = 0, 1
    found = edge_jaccard(sp.csr_matrix(words), u, v)
    for k in range(200):
        a, b = set(np.flatnonzero(words[u[k]])), set(np.flatnonzero(words[v[k]]))
        assert found[k] == pytest.approx(len(a & b) / len(a | b) if a | b else 0.0)
    assert found[0] == 0.0


def test_jaccard_agrees_with_sklearn() -> None:
    from sklearn.metrics import pairwise_distances

    words = np.random.default_rng(1).random((30, 20)) < 0.3
    u, v = np.triu_indices(30, 1)
    wanted = 1 - pairwise_distances(words, metric="jaccard")[u, v]
    assert np.allclose(edge_jaccard(sp.csr_matrix(words.astype(float)), u, v), wanted)


@pytest.mark.parametrize("block", [1, 7, 16, 50, 1000])
def test_top_k_equals_the_dense_answer(block) -> None:
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(50, 6))).float()
    x[3] = 0  # like nothing
    allowed = torch.arange(50) % 4 != 1
    unit = torch.nn.functional.normalize(x, dim=1)
    dense = (unit @ unit.T).masked_fill(~allowed, -torch.inf)
    value, node = top_k(x, 5, allowed, block)
    assert torch.allclose(value, dense.topk(5, 1).values, atol=1e-6)
    assert torch.allclose(dense.gather(1, node), value, atol=1e-6)
    assert all(len(set(row)) == 5 for row in node.tolist())
    assert bool(allowed[node].all())
    everyone = top_k(x, 1, None, block)[1][:, 0]
    assert [k for k in range(50) if int(everyone[k]) != k] in ([], [3])


def test_edge_cosine_is_the_entry_of_the_dense_matrix() -> None:
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(3000, 4)))
    u, v = torch.from_numpy(np.random.default_rng(4).integers(0, 3000, (2, 5000)))
    wanted = torch.nn.functional.cosine_similarity(x[u], x[v])
    assert torch.allclose(edge_cosine(x, u, v), wanted)


def test_memory_grows_with_the_tile_not_with_the_square() -> None:
    n, block, k, width = 1000, 64, 5, 8
    x = torch.from_numpy(np.random.default_rng(5).normal(size=(n, width))).float()
    allowed = torch.ones(n, dtype=torch.bool)
    with Watch() as watch:
        top_k(x, k, allowed, block)
    tiles = -(-n // block)
    assert watch.products == tiles * (tiles + 1) // 2  # each pair of tiles once
    assert watch.largest == max(block * block, n * width)  # of 1,000,000 pairs


def test_what_cannot_be_found_is_refused() -> None:
    x = torch.ones(5, 2)
    with pytest.raises(ArgumentError, match="1 <= k <= 5"):
        top_k(x, 6)
    with pytest.raises(ArgumentError, match="1 <= k <= 2"):
        top_k(x, 3, torch.tensor([True, True, False, False, False]))
    with pytest.raises(ArgumentError, match="block=0"):
        top_k(x, 1, block=0)


def test_jaccard_takes_sparse_arrays_as_well() -> None:
    words = np.eye(4, 6) + np.eye(4, 6, 1)
    u, v = np.array([0, 0, 2]), np.array([1, 2, 3])
    for kind in (sp.csr_matrix, sp.csr_array, sp.coo_array):
        assert edge_jaccard(kind(words), u, v) == pytest.approx([1 / 3, 0, 1 / 3])
