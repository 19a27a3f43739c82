"""Ehrlich functions: the optimum, feasibility, quantisation and epistasis, by brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.sequence.alphabet import DNA, PROTEIN, RNA, Alphabet
from graphdiff.sequence.ehrlich import Ehrlich
from graphdiff.sequence.sequences import Sequences


def plain(f: Ehrlich, x: tuple[int, ...]) -> float:
    """The definition, letter by letter."""
    if any(not f.allowed[a, b] for a, b in itertools.pairwise(x)):
        return 0.0
    value = 1.0
    for motif, offsets in zip(f.motifs, f.spacings, strict=True):
        best = 0.0
        for start in range(len(x) - offsets[-1]):
            present = sum(x[start + o] == a for a, o in zip(motif, offsets, strict=True))
            best = max(best, int(present * f.quantization / len(motif)) / f.quantization)
        value *= best * (1 + f.epistasis * best * (best - 1))
    return value


@pytest.mark.parametrize(("quantization", "epistasis"), [(3, 0.0), (2, 0.0), (3, 2.0), (1, 1.0)])
def test_every_sequence_against_the_definition(quantization: int, epistasis: float) -> None:
    three = Alphabet("three", "ABC")
    f = Ehrlich.draw(
        three, 8, motifs=2, motif_length=3, quantization=quantization, epistasis=epistasis,
        banned=0.5, seed=1,
    )  # fmt: skip
    sequences = np.asarray(list(itertools.product(range(3), repeat=8)))
    found = f(sequences)
    assert found == pytest.approx([plain(f, x) for x in sequences.tolist()])
    assert found.max() == 1.0
    feasible = f.feasible(sequences)
    assert 0 < feasible.mean() < 1
    assert (found[~feasible] == 0).all()
    assert len(np.unique(np.round(found[feasible], 9))) <= (quantization + 1) ** 2


@pytest.mark.parametrize("seed", range(40))
def test_the_optimum_is_one(seed: int) -> None:
    alphabet = (DNA, RNA, PROTEIN)[seed % 3]
    motifs, length = 1 + seed % 4, 2 + seed % 5
    f = Ehrlich.draw(
        alphabet, motifs * (length + seed % 7), motifs=motifs, motif_length=length,
        banned=0.1 * (seed % 10), epistasis=seed % 5, seed=seed,
    )  # fmt: skip
    best = f.optimum()
    assert len(best) == f.length
    assert f.score(best) == 1.0
    values = f(np.random.default_rng(seed).integers(len(alphabet), size=(200, f.length)))
    assert ((values >= 0) & (values <= 1)).all()


def test_a_function_by_hand() -> None:
    allowed = np.ones((4, 4), bool)
    allowed[0, 3] = False  # T must not follow A
    f = Ehrlich(DNA, 8, allowed, np.asarray([[0, 1], [2, 2]]), np.asarray([[0, 2], [0, 1]]), 2)
    assert f.score("ACCAGGAA") == 1.0
    assert f.score("ACCATGAA") == 0.0  # banned
    assert f.score("AGCAGCAA") == 0.5  # A?C is there, GG by half
    assert f.score("AGAAGAAA") == 0.25
    assert f.score("TTTTTTTT") == 0.0
    skewed = Ehrlich(DNA, 8, allowed, f.motifs, f.spacings, 2, epistasis=2.0)
    assert skewed.score("AGCAGCAA") == 0.25  # 1/2 (1 + 2 (1/2) (-1/2))
    assert skewed.score("ACCAGGAA") == 1.0
    packed = Sequences.from_strings(["ACCAGGAA", "ACC", "AGCAGCAA"], DNA)
    assert f.of(packed).tolist() == [1.0, 0.0, 0.5]


def test_one_seed_one_function() -> None:
    a, b, c = (Ehrlich.draw(PROTEIN, 40, seed=s) for s in (0, 0, 1))
    assert np.array_equal(a.motifs, b.motifs)
    assert np.array_equal(a.allowed, b.allowed)
    assert not (np.array_equal(a.motifs, c.motifs) and np.array_equal(a.allowed, c.allowed))


def test_wrong_arguments() -> None:
    with pytest.raises(ArgumentError, match="do not fit into 7"):
        Ehrlich.draw(DNA, 7, motifs=2, motif_length=4)
    with pytest.raises(ArgumentError, match="quantization must be 1 to"):
        Ehrlich.draw(DNA, 32, quantization=5)
    with pytest.raises(ArgumentError, match=r"epistasis must lie in \[0, 4\]"):
        Ehrlich.draw(DNA, 32, epistasis=5)
    with pytest.raises(ArgumentError, match="banned must lie"):
        Ehrlich.draw(DNA, 32, banned=1.0)
    allowed = np.ones((4, 4), bool)
    allowed[0, 1] = False
    with pytest.raises(ArgumentError, match="contains a banned transition"):
        Ehrlich(DNA, 8, allowed, np.asarray([[0, 1]]), np.asarray([[0, 1]]), 2)
    f = Ehrlich.draw(DNA, 16)
    with pytest.raises(ArgumentError, match=r"shape \[b, 16\]"):
        f(np.zeros((1, 15), int))
    with pytest.raises(ArgumentError, match="denoise masked positions"):
        f(np.full((1, 16), 4))
    with pytest.raises(DataError, match="no letter"):
        f.score("Q" * 16)
    with pytest.raises(ArgumentError, match="is over dna, found rna"):
        f.of(Sequences.from_strings(["ACGU"], RNA))
