"""The network: shapes, guidance, invariance to the batch, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from graphdiff.core.errors import ArgumentError
from graphdiff.core.rng import Key
from imagediff.nets.unet import UNet


def net(**options: int) -> UNet:
    """A UNet with random weights everywhere, also where a fresh one is zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = UNet(**{"width": 8, "embed": 16, **options})
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return made.eval().requires_grad_(False)


def batch(
    n: int, channels: int = 1, side: int = 8
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    key = Key(1, torch.arange(n))
    pixels = key.normal(channels * side * side).view(n, channels, side, side)
    return pixels, key.at(stream="level").normal(1)[:, 0] * 5, torch.arange(n) % 10


def answer(network: UNet, x, level, **cond) -> torch.Tensor:
    return network({"pixels": x}, level, {}, cond)["pixels"]


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 8), (2, 4)])
def test_answers_in_the_shape_of_the_image(channels, side):
    x, level, label = batch(5, channels, side)
    out = answer(net(channels=channels), x, level, label=label)
    assert out.shape == x.shape
    assert out.isfinite().all()


def test_a_fresh_network_answers_zero():
    x, level, label = batch(4)
    assert not answer(UNet(), x, level, label=label).any()


def test_guidance_of_one_is_the_plain_model_bit_for_bit():
    network, (x, level, label) = net(), batch(6)
    plain = answer(network, x, level, label=label)
    # Twice the batch, so that the convolutions see the shape that the guided call gives them.
    twice = answer(network, x.repeat(2, 1, 1, 1), level.repeat(2), label=label.repeat(2))[:6]
    guided = answer(network, x, level, label=label, guidance=torch.ones(6))
    assert torch.equal(guided, twice)
    torch.testing.assert_close(guided, plain, rtol=1e-5, atol=1e-5)


def test_guidance_extrapolates_from_the_unconditional_answer():
    network, (x, level, label) = net(), batch(6)
    weight = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 4.0])
    guided = answer(network, x, level, label=label, guidance=weight)
    null, plain = answer(network, x, level), answer(network, x, level, label=label)
    expected = null + weight[:, None, None, None] * (plain - null)
    torch.testing.assert_close(guided, expected, rtol=1e-4, atol=1e-4)


def test_classes_and_noise_levels_matter():
    network, (x, level, label) = net(), batch(6)
    base = answer(network, x, level, label=label)
    assert not torch.allclose(base, answer(network, x, level, label=(label + 1) % 10), atol=1e-3)
    assert not torch.allclose(base, answer(network, x, level + 1, label=label), atol=1e-3)


def test_an_image_does_not_depend_on_its_batch():
    network, (x, level, label) = net(), batch(9)
    whole = answer(network, x, level, label=label)
    order = torch.tensor([4, 1, 8])
    part = answer(network, x[order], level[order], label=label[order])
    torch.testing.assert_close(part, whole[order], rtol=1e-5, atol=1e-5)


def test_infinite_noise_levels_are_finite():
    x, _, label = batch(2)
    out = answer(net(), x, torch.tensor([float("inf"), float("-inf")]), label=label)
    assert out.isfinite().all()


@pytest.mark.parametrize(
    ("shape", "match"),
    [((2, 8, 8), "must be"), ((2, 3, 8, 8), "must be"), ((2, 1, 7, 8), "crop or pad")],
)
def test_refuses_images_of_a_wrong_shape(shape, match):
    with pytest.raises(ArgumentError, match=match):
        answer(net(), torch.zeros(shape), torch.zeros(2))


@pytest.mark.parametrize("label", [torch.zeros(3, dtype=torch.int64), torch.zeros(2)])
def test_refuses_labels_of_a_wrong_shape_or_type(label):
    with pytest.raises(ArgumentError, match="one class per image"):
        answer(net(), torch.zeros(2, 1, 8, 8), torch.zeros(2), label=label)


def test_refuses_guidance_of_a_wrong_shape():
    label = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ArgumentError, match="one weight per image"):
        answer(net(), torch.zeros(2, 1, 8, 8), torch.zeros(2), label=label, guidance=torch.ones(1))


def test_refuses_an_impossible_size():
    with pytest.raises(ArgumentError, match="multiple of groups"):
        UNet(width=10, groups=4)
