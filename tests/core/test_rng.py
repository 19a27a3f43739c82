"""Counter-based noise: published vectors, prefix stability, independence of the batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stats import accepted, chi2_pvalue, ks_pvalue, moments_pvalue, rejected

from graphdiff.core.errors import ArgumentError
from graphdiff.core.rng import Draw, Key, draw, philox, stream_id

# Salmon et al., Random123 1.09, tests/kat_vectors: philox4x32 with 10 rounds.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
LARGE = 2**48 - 1


def plain_philox(counter: list[int], key: tuple[int, int]) -> list[int]:
    """Philox4x32-10 in Python integers, straight from the paper."""
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [
            p1 >> 32 ^ counter[1] ^ k0,
            p1 & 0xFFFFFFFF,
            p0 >> 32 ^ counter[3] ^ k1,
            p0 & 0xFFFFFFFF,
        ]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return counter


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter, key, expected):
    even = torch.tensor([[counter[0]], [counter[2]]])
    odd = torch.tensor([[counter[1]], [counter[3]]])
    a, b = philox(even, odd, key[0] | key[1] << 32)
    assert (int(a[0, 0]), int(b[0, 0]), int(a[1, 0]), int(b[1, 0])) == expected
    assert plain_philox(list(counter), key) == list(expected)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    sample=st.integers(0, LARGE),
    step=st.integers(0, 2**32 - 1),
    stream=st.integers(0, 2**16 - 1),
)
def test_bits_are_the_documented_counters(seed, sample, step, stream):
    bits = Key(seed, torch.tensor([5, sample]), step, stream).bits(10)[1].tolist()
    words = []
    for block in range(3):
        counter = [block, step, sample & 0xFFFFFFFF, (sample >> 32) << 16 | stream]
        words += plain_philox(counter, (seed & 0xFFFFFFFF, seed >> 32))
    assert bits == words[:10]


@settings(max_examples=30, deadline=None)
@given(st.data())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_prefix_batch_and_order(kind, dtype, data):
    ids = data.draw(st.lists(st.integers(0, LARGE), min_size=1, max_size=6))
    n = data.draw(st.integers(0, 23))
    m = data.draw(st.integers(0, n))
    key = Key(data.draw(st.integers(0, 2**64 - 1)), torch.tensor(ids), step=3, stream=9)
    full = getattr(key, kind)(n, dtype)
    assert full.shape == (len(ids), n)
    assert full.dtype == dtype
    assert torch.equal(getattr(key, kind)(m, dtype), full[:, :m])
    order = torch.tensor(data.draw(st.permutations(range(len(ids)))))
    assert torch.equal(getattr(key.select(order), kind)(n, dtype), full[order])
    assert torch.equal(getattr(key.select([0]), kind)(n, dtype), full[:1])


def test_one_call_for_many_requests():
    key = Key(11, torch.arange(7), step=2, stream=1)
    mixed = [
        Draw(5, stream="x"),
        Draw(3, "uniform", torch.float64, "adj", 8),
        Draw(0),
        Draw(9, "normal", torch.float64),
        Draw(2, "normal", torch.bfloat16, 4),
    ]
    same = [Draw(6, step=i) for i in range(4)]
    for requests in (mixed, same):
        for d, got in zip(requests, draw(key, requests), strict=True):
            alone = getattr(key.at(d.step, d.stream), d.kind)(d.n, d.dtype)
            assert got.dtype == d.dtype
            assert torch.equal(got, alone)
    assert draw(key, []) == []


def test_streams_steps_seeds_and_ids_differ():
    ids = torch.arange(3)
    base = Key(1, ids)
    others = [Key(2, ids), Key(1 + 2**32, ids), base.at(step=1), base.at(stream=1), Key(1, ids + 3),
              Key(1, ids + 2**32), base.at(stream="x")]  # fmt: skip
    for other in others:
        assert (other.bits(8) == base.bits(8)).float().mean() < 0.1
    assert base.at(stream="x").stream == stream_id("x")
    assert base.at(step=4).at(stream=2) == Key(1, ids, 4, 2)


def test_open_interval_and_extreme_bits():
    from graphdiff.core.rng import _convert

    for word in (0, 0xFFFFFFFF):
        even, odd = torch.full((2, 1, 1), word), torch.full((2, 1, 1), word)
        for dtype in (torch.float32, torch.float64):
            u = _convert(even.clone(), odd.clone(), "uniform", dtype)
            assert ((u > 0) & (u < 1)).all()
            assert _convert(even.clone(), odd.clone(), "normal", dtype).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_laws(dtype):
    key = Key(0, torch.arange(500))
    uniform, normal = key.uniform(100, dtype), key.normal(100, dtype)
    assert accepted(ks_pvalue(uniform, "uniform"))
    assert accepted(ks_pvalue(normal))
    assert rejected(ks_pvalue(normal * 1.05))
    # Neighbours in a stream, in the batch and in the step must be uncorrelated.
    rows = normal[:, :8].reshape(-1, 8)
    later = key.at(step=1).normal(8, dtype)
    wide = torch.cat((rows, rows.roll(1, 0), later), 1)
    eye = torch.eye(24, dtype=torch.float64)
    assert accepted(moments_pvalue(wide, torch.zeros(24), eye, repeats=1000))
    mixed = rows + 0.3 * rows.roll(1, 1)
    assert rejected(moments_pvalue(mixed, torch.zeros(8), torch.eye(8), repeats=1000))


def test_bits_are_uniform():
    bits = Key(3, torch.arange(200)).bits(100)
    for shift in (0, 8, 16, 24):
        counts = (bits >> shift & 0xFF).flatten().bincount(minlength=256)
        assert accepted(chi2_pvalue(counts, torch.ones(256)))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"step": 2**32}, "step"),
        ({"stream": 2**16}, "stream"),
        ({"ids": torch.tensor([-1])}, "-1"),
        ({"ids": torch.tensor([2**48])}, "ids"),
        ({"ids": torch.tensor([1.0])}, "int64"),
        ({"ids": torch.tensor(1)}, "int64"),
    ],
)
def test_bad_keys(arguments, word):
    with pytest.raises(ArgumentError, match=word):
        Key(**{"seed": 0, "ids": torch.arange(2), **arguments})
    with pytest.raises(ArgumentError):
        Key(0, torch.arange(2)).at(step=-1)


def test_empty_batch():
    assert Key(0, torch.arange(0)).normal(5).shape == (0, 5)


@pytest.mark.gpu
def test_same_bits_on_the_device():
    key = Key(5, torch.arange(100), step=7)
    there = Key(5, torch.arange(100, device="cuda"), step=7)
    assert torch.equal(key.bits(37), there.bits(37).cpu())
    torch.testing.assert_close(key.normal(37), there.normal(37).cpu(), atol=2e-6, rtol=1e-5)
