"""Networks of cells against forwards by hand, isomorphic cells, training, digits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, relu

from graphdiff.core.errors import ArgumentError, TrainingError
from graphdiff.graph.nag.cell import Cell, CellNetwork, accuracy, train_cell
from graphdiff.graph.nag.digits import digits, digits_accuracy
from graphdiff.graph.nag.spaces import NASBench201, NASBenchMacro

SPACE = NASBench201()
NONE, SKIP, ONE, THREE, POOL = range(5)
NAMES = SPACE.types[2:]


def names(*ops: int) -> list[str]:
    return [NAMES[op] for op in ops]


def one(*ops: int):
    return SPACE.cells(np.array([ops]))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))


def test_identities_count_the_paths(x) -> None:
    assert torch.equal(Cell(names(SKIP, SKIP, SKIP, SKIP, SKIP, SKIP), 4)(x), 4 * x)
    assert torch.equal(Cell(names(SKIP, NONE, SKIP, SKIP, NONE, SKIP), 4)(x), 2 * x)
    assert torch.equal(Cell(names(NONE, SKIP, NONE, NONE, NONE, SKIP), 4)(x), x)


def test_cut_paths_cost_nothing(x) -> None:
    dead = Cell(names(THREE, THREE, ONE, NONE, NONE, NONE), 4)
    assert not list(dead.parameters())
    assert torch.equal(dead(x), torch.zeros_like(x))
    # 0-1 and 1-2 lead nowhere as 2-3 and 1-3 are cut; 0-3 alone is left.
    left = Cell(names(THREE, THREE, ONE, ONE, NONE, NONE), 4)
    assert list(left.edges) == ["0-3"]
    assert sum(p.numel() for p in left.parameters()) == 4 * 4 + 2 * 4
    # 1-3 reads a tensor that nothing wrote.
    assert list(Cell(names(NONE, SKIP, NONE, NONE, THREE, ONE), 4).edges) == ["0-2", "2-3"]


def test_the_mean_of_a_patch_leaves_the_border_out(x) -> None:
    found = Cell(names(NONE, NONE, NONE, POOL, NONE, NONE), 4)(x)
    for i in range(5):
        for j in range(6):
            patch = x[:, :, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            torch.testing.assert_close(found[:, :, i, j], patch.mean((2, 3)))


def reference(ops: tuple[int, ...], x: Tensor, one_: Tensor, three: Tensor) -> Tensor:
    """Sum over all paths by recursion, without looking for dead ones."""
    edges = {(0, 1): 0, (0, 2): 1, (1, 2): 2, (0, 3): 3, (1, 3): 4, (2, 3): 5}

    def apply(op: int, value: Tensor) -> Tensor:
        if op == NONE:
            return 0 * value
        if op == SKIP:
            return value
        if op == POOL:
            ones = torch.ones(value.shape[1], 1, 3, 3, dtype=value.dtype)
            n = value.shape[1]
            count = conv2d(torch.ones_like(value), ones, padding=1, groups=n)
            return conv2d(value, ones, padding=1, groups=n) / count
        weight = one_ if op == ONE else three
        out = conv2d(relu(value), weight, padding=weight.shape[-1] // 2)
        return batch_norm(out, torch.zeros(4).double(), torch.ones(4).double())

    def tensor(k: int) -> Tensor:
        if k == 0:
            return x
        return sum(apply(ops[edges[j, k]], tensor(j)) for j in range(k))

    return tensor(3)


def tied(ops: tuple[int, ...], one_: Tensor, three: Tensor) -> Cell:
    """A cell in which every convolution of a kernel has the same weights."""
    cell = Cell(names(*ops), 4).double().eval()
    for module in cell.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data = (one_ if module.kernel_size == (1, 1) else three).clone()
    return cell


def test_outputs_are_those_of_the_paths_and_equal_only_for_equal_functions(x) -> None:
    x = x.double()
    made = torch.Generator().manual_seed(1)
    one_, three = (torch.randn(4, 4, k, k, generator=made).double() / 4 for k in (1, 3))
    rng = np.random.default_rng(0)
    cells = [tuple(row) for row in rng.integers(0, 5, (80, 6)).tolist()]
    cells += [tuple(row[k] for k in (1, 0, 2, 3, 5, 4)) for row in cells if row[2] == NONE]
    outs = []
    with torch.no_grad():
        for ops in cells:
            outs.append(tied(ops, one_, three)(x))
            torch.testing.assert_close(outs[-1], reference(ops, x, one_, three))
    functions = [SPACE.function(one(*ops)) for ops in cells]
    pairs = 0
    for a in range(len(cells)):
        for b in range(a):
            equal = torch.allclose(outs[a], outs[b], rtol=1e-9, atol=1e-9)
            assert equal == (functions[a] == functions[b]), (cells[a], cells[b])
            pairs += equal and cells[a] != cells[b]
    assert pairs > 5


def test_isomorphic_cells_with_copied_weights_are_the_same_network() -> None:
    first, second = one(THREE, ONE, NONE, SKIP, POOL, ONE), one(ONE, THREE, NONE, SKIP, ONE, POOL)
    assert SPACE.function(first) == SPACE.function(second)
    shape = {"channels": 3, "cells": (1, 2), "classes": 4, "in_channels": 2}
    a, b = CellNetwork(SPACE, first, **shape), CellNetwork(SPACE, second, **shape)
    images = torch.randn(2, 2, 7, 8, generator=torch.Generator().manual_seed(0))
    a.eval(), b.eval()
    assert not torch.allclose(a(images), b(images), atol=1e-4)
    swap = {"0-1": "0-2", "0-2": "0-1", "1-3": "2-3", "2-3": "1-3"}

    def other(name: str) -> str:
        return ".".join(swap.get(part, part) for part in name.split("."))

    b.load_state_dict({other(name): value for name, value in a.state_dict().items()})
    torch.testing.assert_close(a(images), b(images))


def test_the_whole_network_by_hand() -> None:
    net = CellNetwork(SPACE, one(SKIP, NONE, NONE, SKIP, SKIP, NONE), channels=2, cells=(1, 1))
    net.eval()
    weights = dict(net.named_parameters())
    scale = 1 / math.sqrt(1 + 1e-5)  # batch normalisation with the statistics it starts with
    images = torch.randn(3, 1, 7, 5, generator=torch.Generator().manual_seed(0))
    f = 2 * conv2d(images, weights["stem.0.weight"], padding=1) * scale
    body = conv2d(relu(f), weights["body.1.body.0.1.weight"], stride=2, padding=1) * scale
    body = conv2d(relu(body), weights["body.1.body.1.1.weight"], padding=1) * scale
    means = torch.stack(
        [torch.stack([f[:, :, i : i + 2, j : j + 2].mean((2, 3)) for j in (0, 2, 4)], -1)
         for i in (0, 2, 4, 6)], -2,
    )  # fmt: skip
    f = 2 * (body + conv2d(means, weights["body.1.short.1.weight"]))
    by_hand = relu(f * scale).mean((2, 3)) @ weights["head.weight"].T + weights["head.bias"]
    torch.testing.assert_close(net(images), by_hand)


def test_number_of_weights() -> None:
    net = CellNetwork(SPACE, one(THREE, NONE, ONE, NONE, NONE, ONE), channels=4, classes=3)

    def cell(c: int) -> int:
        return 9 * c * c + 2 * c * c + 3 * 2 * c

    def reduction(c: int) -> int:
        return 9 * c * 2 * c + 9 * 4 * c * c + 2 * 4 * c + 2 * c * c

    expected = 9 * 4 + 8 + cell(4) + reduction(4) + cell(8) + reduction(8) + cell(16)
    assert net.parameters_count() == expected + 2 * 16 + 16 * 3 + 3


@pytest.mark.parametrize("ops", [(THREE, ONE, POOL, SKIP, ONE, THREE), (NONE,) * 6])
def test_gradients_reach_every_weight_and_the_zero_cell_works(ops) -> None:
    net = CellNetwork(SPACE, one(*ops), channels=4)
    out = net(torch.randn(5, 1, 8, 8))
    assert out.shape == (5, 10)
    out.square().sum().backward()
    grads = {name: p.grad for name, p in net.named_parameters()}
    assert all(torch.isfinite(g).all() for g in grads.values() if g is not None)
    assert grads["head.bias"].abs().sum() > 0
    if any(ops):
        assert all(g is not None and g.abs().sum() > 0 for g in grads.values())


def test_weights_follow_the_seed() -> None:
    made = []
    for _ in range(2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            made.append(SPACE.module(one(THREE, ONE, POOL, SKIP, ONE, THREE), channels=2))
    a, b = (net.state_dict() for net in made)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_arguments_are_checked() -> None:
    bad = one(*(SKIP,) * 6)
    bad.ops[0, 2] = -1
    with pytest.raises(ArgumentError, match=r"expected one cell .* found 1, .*None"):
        CellNetwork(SPACE, bad)
    with pytest.raises(ArgumentError, match="found 2, the first"):
        CellNetwork(SPACE, SPACE.draw(2, np.random.default_rng(0)))
    macro = NASBenchMacro()
    with pytest.raises(ArgumentError, match="expected the space nasbench201, found 'macro'"):
        CellNetwork(macro, macro.draw(1, np.random.default_rng(0)))
    good = one(*(SKIP,) * 6)
    with pytest.raises(ArgumentError, match="channels = 0"):
        CellNetwork(SPACE, good, channels=0)
    net = CellNetwork(SPACE, good, channels=1, cells=(1,))
    images, labels = torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ArgumentError, match=r"found \[4, 1, 8, 8\] and \[3\]"):
        accuracy(net, images, labels[:3])
    with pytest.raises(ArgumentError, match="found epochs 0"):
        train_cell(net, images, labels, epochs=0)
    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 1; .* check the images"):
        train_cell(net, images * torch.nan, labels)


def test_digits_have_fixed_parts() -> None:
    sizes = {part: len(digits(part)[1]) for part in ("train", "valid", "test")}
    assert sum(sizes.values()) == 1797
    assert sizes["test"] == 348
    images, labels = digits("train")
    assert images.shape[1:] == (1, 8, 8)
    assert (float(images.min()), float(images.max())) == (-1.0, 1.0)
    assert labels.bincount().min() > 90
    with pytest.raises(ArgumentError, match="unknown part 'val' of the digits"):
        digits("val")


def test_the_test_part_is_that_of_imagediff() -> None:
    from imagediff.data.digits import load_digits

    split = load_digits("test")
    assert torch.equal(digits("test")[1], torch.from_numpy(split.labels))
    assert torch.equal(digits("test")[0][:, 0], torch.from_numpy(split.ink / 8 - 1).float())


def test_digits_tell_cells_apart_and_are_repeatable() -> None:
    good, zero = one(THREE, SKIP, THREE, NONE, SKIP, THREE), one(*(NONE,) * 6)
    before = torch.random.get_rng_state()
    seen: list[tuple[int, int]] = []
    first = digits_accuracy(SPACE, good, epochs=6)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert digits_accuracy(SPACE, good, epochs=6) == first
    # Chance is 10 %; one class in ten of 345 has a standard deviation of 1.6 points.
    assert first > 60
    assert digits_accuracy(SPACE, zero, epochs=1) < 20
    net = CellNetwork(SPACE, zero, channels=1, cells=(1,))
    train_cell(net, *digits("test"), epochs=2, progress=lambda *at: seen.append(at))
    assert seen == [(1, 2), (2, 2)]
    assert not net.training
