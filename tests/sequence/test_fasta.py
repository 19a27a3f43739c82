"""FASTA files and SeqRecord objects."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data import load
from graphdiff.sequence.alphabet import DNA, PROTEIN, RNA
from graphdiff.sequence.dataset import SequenceDataset
from graphdiff.sequence.fasta import (
    from_records,
    guess_alphabet,
    read_fasta,
    to_records,
    write_fasta,
)
from graphdiff.sequence.sequences import Sequences


def put(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("suffix", [".fa", ".fasta.gz"])
def test_our_files_are_read_by_biopython_and_back(tmp_path: Path, suffix: str) -> None:
    seq_io = pytest.importorskip("Bio.SeqIO")
    strings = ["ACGT" * 40, "G", "TTTACA"]
    names, about = ["chr1", "b|2", "c"], ["first one", "", "len=6"]
    path = tmp_path / f"x{suffix}"
    write_fasta(path, Sequences.from_strings(strings, DNA), names, descriptions=about, width=50)
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if suffix.endswith("gz") else raw).decode()
    theirs = list(seq_io.parse(io.StringIO(text), "fasta"))
    assert [str(r.seq) for r in theirs] == strings
    assert [r.id for r in theirs] == names
    assert [r.description for r in theirs] == ["chr1 first one", "b|2", "c len=6"]
    ours = read_fasta(path)
    assert ours.sequences == Sequences.from_strings(strings, DNA)
    assert ours.names == tuple(names)
    assert ours.descriptions == tuple(about)


def test_wrapping(tmp_path: Path) -> None:
    path = write_fasta(tmp_path / "x.fa", ["ACGTA"], width=2)
    assert path.read_text() == ">seq1\nAC\nGT\nA\n"
    assert write_fasta(path, ["ACGTA"], width=0).read_text() == ">seq1\nACGTA\n"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text("ACDEFGHIKLMNPQRSTVWY", min_size=1, max_size=90), min_size=1, max_size=5))
def test_round_trip(tmp_path: Path, strings: list[str]) -> None:
    path = write_fasta(tmp_path / "p.faa", strings)
    assert read_fasta(path, "protein").sequences.strings() == strings


def test_what_foreign_files_hold(tmp_path: Path) -> None:
    """Windows line ends, byte order mark, blank lines, comments, lower case, spaces in lines."""
    text = "\ufeff; a comment\r\n>a the first\r\nacg t\r\n\r\nAC\r\n>b\r\nGGG"
    found = read_fasta(put(tmp_path / "x.fa", text))
    assert found.names == ("a", "b")
    assert found.descriptions == ("the first", "")
    assert found.sequences.strings() == ["ACGTAC", "GGG"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("ACGT\n", "line 1 comes before any"),
        (">\nACGT\n", "line 1: the record has no name"),
        (">a\n>b\nACGT\n", "sequence 'a of .*' is empty"),
        (">a\nACGT\n>a\nACG\n", "records 1 and 2 are both called 'a'"),
        (">a\nACGT\n>b\nAC-T\n", "'b of .*x.fa' has '-' .a gap"),
        (">a\nACGT\n>b\nACNT\n", "'b of .*x.fa' has the ambiguity code 'N'"),
    ],
)
def test_mistakes_name_the_record(tmp_path: Path, text: str, message: str) -> None:
    path = put(tmp_path / "x.fa", text)
    with pytest.raises(DataError, match=message):
        read_fasta(path, DNA)


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    path = write_fasta(tmp_path / "x.fa.gz", ["ACGT" * 100])
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match="truncated or damaged"):
        read_fasta(path)
    with pytest.raises(DataError, match="cannot read"):
        read_fasta(tmp_path / "none.fa")
    (tmp_path / "raw.fa").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is no text"):
        read_fasta(tmp_path / "raw.fa")


def test_policies(tmp_path: Path) -> None:
    path = put(tmp_path / "x.fa", ">a\nACGT\n>b\nANNT\n>c\nacgt\n")
    skipped = read_fasta(path, ambiguous="skip")
    assert (skipped.names, skipped.skipped) == (("a", "c"), ("b",))
    drawn = read_fasta(path, ambiguous="random", seed=3).sequences.strings()
    assert drawn[0] == drawn[2] == "ACGT"
    assert (drawn[1][0], drawn[1][3]) == ("A", "T")
    assert drawn == read_fasta(path, ambiguous="random", seed=3).sequences.strings()
    with pytest.raises(DataError, match=r"'c of .*' has lower-case"):
        read_fasta(path, ambiguous="skip", lower_case="error")
    every = put(tmp_path / "n.fa", ">a\nANG\n")
    with pytest.raises(DataError, match="every one of the 1 records"):
        read_fasta(every, ambiguous="skip")
    with pytest.raises(ArgumentError, match="'error', 'skip' or 'random'"):
        read_fasta(path, ambiguous="drop")


def test_guessing() -> None:
    assert guess_alphabet(["ACGN", "t"]) is DNA
    assert guess_alphabet(["ACGU"]) is RNA
    assert guess_alphabet(["ACGE"]) is PROTEIN
    with pytest.raises(DataError, match="both T and U"):
        guess_alphabet(["ACGU", "T"])


def test_records_there_and_back() -> None:
    pytest.importorskip("Bio")
    packed = Sequences.from_strings(["ACC", "ACAG"], PROTEIN)  # would be guessed to be DNA
    records = to_records(packed, ["p", "q"])
    assert [r.annotations["molecule_type"] for r in records] == ["protein"] * 2
    back = from_records(records)
    assert back.sequences == packed
    assert back.names == ("p", "q")
    assert back.descriptions == ("", "")
    with pytest.raises(DataError, match="both called 'p'"):
        from_records([records[0], records[0]])
    with pytest.raises(DataError, match="no records"):
        from_records([])


def test_names_that_cannot_be_written(tmp_path: Path) -> None:
    for names in (["a b"], [""]):
        with pytest.raises(ArgumentError, match="cannot name a record"):
            write_fasta(tmp_path / "x.fa", ["ACG"], names)
    with pytest.raises(ArgumentError, match="one line"):
        write_fasta(tmp_path / "x.fa", ["ACG"], descriptions=["two\nlines"])
    with pytest.raises(ArgumentError, match="2 names"):
        write_fasta(tmp_path / "x.fa", ["ACG"], ["a", "b"])
    assert not (tmp_path / "x.fa").exists()


# -- as data sets ---------------------------------------------------------------------------------


def own(tmp_path: Path, count: int = 60) -> tuple[Path, list[str]]:
    import random

    rng = random.Random(0)
    strings = ["".join(rng.choice("ACGT") for _ in range(30)) for _ in range(count)]
    return write_fasta(tmp_path / "mine.fa.gz", strings), strings


def test_a_file_is_a_data_set(tmp_path: Path) -> None:
    path, strings = own(tmp_path)
    data = load(str(path))
    assert isinstance(data, SequenceDataset)
    assert (data.name, data.card["alphabet"]) == ("mine", "dna")
    assert data.names is not None
    assert data.names[:2] == ("seq1", "seq2")
    joined = sorted(i for index in data.splits.values() for i in index.tolist())
    assert joined == list(range(len(strings)))
    assert len(data.split("train")) > 0.6 * len(strings)
    # order does not move a sequence to another split
    turned = load(str(write_fasta(tmp_path / "turned.fa", strings[::-1])))
    for split in data.splits:
        assert set(data.split(split).strings()) == set(turned.split(split).strings())
    with pytest.raises(ArgumentError, match="holds sequences, not graphs"):
        _ = data.graphs
    with pytest.raises(ArgumentError, match="has no option 'colour'"):
        load(str(path), colour=1)


def test_a_folder_and_its_relatives(tmp_path: Path) -> None:
    _, strings = own(tmp_path)
    relatives = [s[:-1] + ("A" if s[-1] != "A" else "C") for s in strings]
    write_fasta(tmp_path / "more.fna", relatives, [f"r{i}" for i in range(len(strings))])
    together = load(str(tmp_path), split="family")
    assert len(together.sequences) == 2 * len(strings)
    where = {s: k for k, v in together.splits.items() for s in together.sequences[v].strings()}
    assert all(where[a] == where[b] for a, b in zip(strings, relatives, strict=True))
    apart = load(str(tmp_path))
    where = {s: k for k, v in apart.splits.items() for s in apart.sequences[v].strings()}
    assert any(where[a] != where[b] for a, b in zip(strings, relatives, strict=True))
