"""Networks on tokens: size, blindness to padding, class weights, what they are told."""

from __future__ import annotations

import pytest
import torch

from graphdiff.core.errors import ArgumentError
from graphdiff.core.guidance import ClassifierFree
from graphdiff.sequence.infill import FREE, GIVEN, Infilling
from graphdiff.sequence.nets.dilated import DilatedCNN
from graphdiff.sequence.nets.tokens import class_weights
from graphdiff.sequence.nets.transformer import SequenceTransformer, rotate

LENGTHS = torch.tensor([11, 7, 3, 1])
MASK = torch.arange(11) < LENGTHS[:, None]


def scrambled(net: torch.nn.Module) -> torch.nn.Module:
    """Float64, no parameter at zero: what starts at zero would hide what it multiplies."""
    generator = torch.Generator().manual_seed(0)
    net = net.double().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.3 * torch.randn(p.shape, dtype=p.dtype, generator=generator))
    return net


def make(kind: str, **changes) -> torch.nn.Module:
    if kind == "dilated":
        shape = {"width": 8, "stacks": 2, "dilations": (1, 3), "kernel": 5, **changes}
        return scrambled(DilatedCNN(5, **shape))
    return scrambled(SequenceTransformer(5, **{"width": 16, "layers": 2, "heads": 2, **changes}))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 5, (4, 11), generator=generator)
    return tokens, torch.rand(4, dtype=torch.float64, generator=generator)


def test_the_published_size():
    """Counted in the original: 20 layers of width 128 with the clock, five classes."""
    net = DilatedCNN(5)
    assert sum(p.numel() for p in net.parameters()) == 3_326_661
    without = DilatedCNN(5, time=False)
    clock = 64 + 128 * 128 + 128 + 20 * (128 * 128 + 128)
    assert sum(p.numel() for p in without.parameters()) == 3_326_661 - clock


@pytest.mark.parametrize("kind", ["dilated", "transformer"])
@pytest.mark.parametrize("told", [{"time": False}, {"time": True}, {"time": True, "labels": 3}])
@pytest.mark.parametrize("soft", [False, True])
def test_padding_changes_nothing(kind, told, soft):
    net, (tokens, t) = make(kind, **told), batch()
    cond = {"label": torch.tensor([0, 1, 2, 1])} if "labels" in told else None
    if soft:
        tokens = torch.softmax(5 * torch.randn(4, 11, 5, dtype=torch.float64), -1)
    out = net({"tokens": tokens}, t, {"tokens": MASK}, cond)["tokens"]
    other = tokens.clone()
    other[~MASK] = other[0, 0].clone()
    again = net({"tokens": other}, t, {"tokens": MASK}, cond)["tokens"]
    torch.testing.assert_close(out[MASK], again[MASK], rtol=0, atol=0)
    for row, n in enumerate(LENGTHS.tolist()):
        part = slice(row, row + 1)
        own = None if cond is None else {k: v[part] for k, v in cond.items()}
        alone = net({"tokens": tokens[part, :n]}, t[part], {}, own)["tokens"]
        torch.testing.assert_close(out[part, :n], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["dilated", "transformer"])
def test_one_hot_weights_are_classes_and_soft_ones_have_a_gradient(kind):
    net, (tokens, t) = make(kind), batch()
    masks = {"tokens": MASK}
    hot = torch.nn.functional.one_hot(tokens, 5).double().requires_grad_()
    out = net({"tokens": hot}, t, masks)["tokens"]
    torch.testing.assert_close(out, net({"tokens": tokens}, t, masks)["tokens"], rtol=0, atol=0)
    (slope,) = torch.autograd.grad(out[MASK].square().sum(), hot)
    assert (slope[MASK].abs().amax(-1) > 0).all()
    assert not slope[~MASK].any()


@pytest.mark.parametrize("kind", ["dilated", "transformer"])
def test_positions_matter_and_reach(kind):
    """Swapping two different letters is seen, far from them too."""
    net = make(kind)
    tokens = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2]])
    moved = tokens.clone()
    moved[0, [0, 2]] = moved[0, [2, 0]]
    t = torch.zeros(1, dtype=torch.float64)
    a, b = (net({"tokens": x}, t, {})["tokens"] for x in (tokens, moved))
    assert (a[0, 5:9] != b[0, 5:9]).any(-1).all()


def test_rotation_sees_distances_only():
    q, k = torch.randn(2, 1, 1, 8, dtype=torch.float64).expand(2, 1, 12, 8).unbind(0)
    scores = rotate(q[None]) @ rotate(k[None]).mT  # the same query and key at every place
    for shift in range(-11, 12):
        diagonal = scores[0, 0].diagonal(shift)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)
    assert abs(scores[0, 0].diagonal(1)[0] - scores[0, 0].diagonal(2)[0]) > 1e-3
    norms = rotate(q[None]).norm(dim=-1)
    torch.testing.assert_close(norms, q[None].norm(dim=-1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", ["dilated", "transformer"])
def test_what_a_network_is_told(kind):
    net, (tokens, t) = make(kind, labels=3), batch()
    masks, label = {"tokens": MASK}, torch.tensor([0, 1, 2, 1])

    def ask(cond, clock=t):
        return net({"tokens": tokens}, clock, masks, cond)["tokens"][MASK]

    silent = ask(None)
    hidden = {"label": label, "told": torch.zeros(4, dtype=torch.bool)}
    assert torch.equal(ask(hidden), silent)
    assert (ask({"label": label}) != silent).any()
    assert (ask({"label": label}) != ask({"label": (label + 1) % 3})).any()
    assert (ask(None, t / 2) != silent).any()
    blind = make(kind, time=False)
    first, second = (blind({"tokens": tokens}, c, masks)["tokens"] for c in (t, t / 2))
    assert torch.equal(first, second)


def test_guidance_and_infilling_wrap_any_network():
    net, (tokens, t) = make("dilated", labels=3), batch()
    whole = Infilling(ClassifierFree(net))
    masks, label = {"tokens": MASK}, torch.tensor([0, 1, 2, 1])
    plain = net({"tokens": tokens}, t, masks, {"label": label})["tokens"]
    silent = net({"tokens": tokens}, t, masks, None)["tokens"]
    one = whole({"tokens": tokens}, t, masks, {"label": label})["tokens"]
    assert torch.equal(one, plain)
    weight = torch.full((4,), 3.0, dtype=torch.float64)
    guided = whole({"tokens": tokens}, t, masks, {"label": label, "guidance": weight})["tokens"]
    torch.testing.assert_close(guided, silent + 3 * (plain - silent))
    given = torch.full((4, 11), FREE)
    given[:, 0] = 2
    shown = tokens.clone()
    shown[:, 0] = 2
    filled = whole({"tokens": tokens}, t, masks, {GIVEN: given})["tokens"]
    expected = net({"tokens": shown}, t, masks, None)["tokens"]
    torch.testing.assert_close(filled[:, 1:], expected[:, 1:], rtol=0, atol=0)
    assert (torch.softmax(filled[:, 0], -1)[:, 2] == 1).all()
    soft = torch.softmax(torch.randn(4, 11, 5, dtype=torch.float64), -1)
    again = whole({"tokens": soft}, t, masks, {GIVEN: given})["tokens"]
    changed = soft.clone()
    changed[:, 0] = torch.softmax(torch.randn(4, 5, dtype=torch.float64), -1)
    other = whole({"tokens": changed}, t, masks, {GIVEN: given})["tokens"]
    torch.testing.assert_close(again, other, rtol=0, atol=0)


def test_wrong_tokens_are_named():
    with pytest.raises(ArgumentError, match=r"\[b, L, 5\].*mask included"):
        class_weights(torch.zeros(2, 3, 4), 5, None, torch.float32)
    with pytest.raises(ArgumentError, match=r"classes \[b, L\]"):
        class_weights(torch.zeros(2, 3, 5, dtype=torch.int64), 5, None, torch.float32)
