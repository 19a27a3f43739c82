"""Letters, tokens, ambiguity codes; packed sequences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.sequence.alphabet import (
    DNA,
    PROTEIN,
    RNA,
    Alphabet,
    alphabets,
    ambiguity_codes,
    find_alphabet,
)
from graphdiff.sequence.sequences import Sequences, concat


@pytest.mark.parametrize("alphabet", [DNA, RNA, PROTEIN], ids=lambda a: a.name)
def test_encode_inverts_decode(alphabet: Alphabet) -> None:
    tokens = alphabet.encode(alphabet.letters)
    assert tokens.tolist() == list(range(len(alphabet)))
    assert alphabet.decode(tokens) == alphabet.letters
    assert find_alphabet(alphabet.name) is alphabet
    assert alphabets() == ("dna", "rna", "protein")


def test_case_and_the_base_of_the_other_acid() -> None:
    assert DNA.decode(DNA.encode("acgtu")) == "ACGTT"
    assert RNA.decode(RNA.encode("acgtu")) == "ACGUU"
    assert PROTEIN.decode(PROTEIN.encode("mkl*")) == "MKL"


def test_codes_are_those_of_biopython() -> None:
    data = pytest.importorskip("Bio.Data.IUPACData")
    for alphabet, table in ((DNA, data.ambiguous_dna_values), (RNA, data.ambiguous_rna_values)):
        ours = {k: set(v) for k, v in ambiguity_codes(alphabet).items()}
        theirs = {k: set(v) for k, v in table.items() if k not in alphabet.letters and k != "X"}
        assert ours == theirs
    proteins = data.extended_protein_values
    for code in "BZJX":
        theirs = set(proteins[code]) - set("UO")
        assert set(ambiguity_codes(PROTEIN)[code]) == theirs


@pytest.mark.parametrize("alphabet", [DNA, RNA, PROTEIN], ids=lambda a: a.name)
def test_a_drawn_letter_is_one_the_code_stands_for(alphabet: Alphabet) -> None:
    for code, letters in ambiguity_codes(alphabet).items():
        text = code * 400
        drawn = alphabet.decode(alphabet.encode(text, ambiguous="random", seed=1))
        assert set(drawn) == set(letters)
        again = alphabet.decode(alphabet.encode(text, ambiguous="random", seed=1))
        assert drawn == again
        if len(letters) > 1:
            assert drawn != alphabet.decode(alphabet.encode(text, ambiguous="random", seed=2))
            # uniform: each count within 5 standard deviations
            p = 1 / len(letters)
            for letter in letters:
                assert abs(drawn.count(letter) - 400 * p) < 5 * (400 * p * (1 - p)) ** 0.5


@pytest.mark.parametrize(
    ("alphabet", "text", "message"),
    [
        (DNA, "ACNT", r"'N' \(any of A, C, G, T\) at position 3"),
        (DNA, "AC-T", "a gap"),
        (DNA, "ACQT", "'Q' at position 3"),
        (DNA, "ACéT", "'é' at position 3"),
        (DNA, "ACGT*", r"'\*' at position 5"),
        (PROTEIN, "M*K", r"'\*' at position 2"),
        (PROTEIN, "*", "is empty"),
        (PROTEIN, "MU", "ambiguity code 'U'"),
        (RNA, "", "is empty"),
    ],
)
def test_what_is_no_letter_is_named(alphabet: Alphabet, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        alphabet.encode(text, where="record 'x'")


def test_wrong_arguments() -> None:
    with pytest.raises(ArgumentError, match="token 4 is no letter"):
        DNA.decode(np.asarray([0, 4]))
    with pytest.raises(ArgumentError, match="'error' or 'random'"):
        DNA.encode("A", ambiguous="skip")
    with pytest.raises(ArgumentError, match="dna, rna, protein"):
        find_alphabet("xna")
    with pytest.raises(ArgumentError, match="different upper-case"):
        Alphabet("mine", "AAB")


texts = st.lists(st.text("ACGT", min_size=1, max_size=12), min_size=1, max_size=8)


@given(texts, st.data())
def test_packing_keeps_every_sequence(strings: list[str], data: st.DataObject) -> None:
    packed = Sequences.from_strings(strings, DNA)
    assert packed.strings() == strings
    assert packed.lengths.tolist() == [len(s) for s in strings]
    index = data.draw(st.lists(st.integers(0, len(strings) - 1), max_size=6))
    assert packed[np.asarray(index, int)].strings() == [strings[i] for i in index]
    assert packed[1:].strings() == strings[1:]
    assert packed[-1].strings() == strings[-1:]
    assert packed[packed.lengths > 3].strings() == [s for s in strings if len(s) > 3]
    tokens, mask = packed.dense(to=12)
    assert tokens.dtype == np.int64
    assert mask.dtype == bool
    assert tokens.shape == mask.shape == (len(strings), 12)
    assert (tokens[~mask] == 0).all()
    assert Sequences.from_dense(tokens, DNA, mask) == packed
    assert concat([packed, packed[:1]]).strings() == [*strings, strings[0]]


def test_files_and_hashes(tmp_path) -> None:
    packed = Sequences.from_strings(["ACGT", "GG"], DNA)
    assert Sequences.load(packed.save(tmp_path / "s.npz")) == packed
    assert Sequences.load(tmp_path / "s.npz", mmap=False) == packed
    other = [
        Sequences.from_strings(["ACG", "TGG"], DNA),  # same tokens, other bounds
        Sequences.from_strings(["ACGU", "GG"], RNA),  # same tokens, other letters
        Sequences.from_strings(["ACGT", "GC"], DNA),
    ]
    assert len({s.sha256() for s in [packed, *other]}) == 4
    data = (tmp_path / "s.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="truncated"):
        Sequences.load(tmp_path / "cut.npz")
    np.savez(tmp_path / "foreign.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="no array alphabet, ptr, tokens"):
        Sequences.load(tmp_path / "foreign.npz")
    named = np.frombuffer(b"dna:ACGT", np.uint8)
    np.savez(
        tmp_path / "bad.npz", tokens=np.full(2, 9, np.uint8), ptr=np.asarray([0, 2]), alphabet=named
    )
    with pytest.raises(DataError, match="holds 9"):
        Sequences.load(tmp_path / "bad.npz")


def test_contradictions_are_refused() -> None:
    with pytest.raises(ArgumentError, match="run from 0"):
        Sequences(np.zeros(3, np.uint8), np.asarray([0, 2]), DNA)
    with pytest.raises(ArgumentError, match="sequence 1 is empty"):
        Sequences(np.zeros(3, np.uint8), np.asarray([0, 3, 3]), DNA)
    with pytest.raises(ArgumentError, match="sequence 1 holds a token"):
        Sequences.from_dense([[0, 1], [4, 0]], DNA)
    with pytest.raises(DataError, match="more than the maximum of 2"):
        Sequences.from_strings(["AC", "ACG"], DNA).dense(to=2)
    with pytest.raises(DataError, match="sequence 'b' has 'Q'"):
        Sequences.from_strings(["AC", "AQ"], DNA, names=["a", "b"])
    with pytest.raises(ArgumentError, match="cannot join"):
        concat([Sequences.from_strings(["A"], DNA), Sequences.from_strings(["A"], RNA)])
