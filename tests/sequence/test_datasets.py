"""Published sets of sequences, and that no family crosses a split."""

from __future__ import annotations

import random

import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data import load, sources
from graphdiff.data.registry import load_sequences, sequence_names
from graphdiff.sequence.alphabet import DNA, PROTEIN
from graphdiff.sequence.dataset import SequenceDataset
from graphdiff.sequence.datasets import all_words
from graphdiff.sequence.families import draw_splits, families, identical
from graphdiff.sequence.sequences import Sequences

COMPLEMENT = str.maketrans("ACGT", "TGCA")


def here(name: str, **options: object) -> SequenceDataset:
    about = sources.card(name)
    entries = about.get("files") or [about["factors"][str(options.get("factor", "SIX6"))]]
    if not all(sources.find([e["file"]]) for e in entries):
        pytest.skip(f"the files of {name} are not under GRAPHDIFF_DATA")
    return load_sequences(name, **options)


@pytest.fixture(scope="module")
def yeast() -> SequenceDataset:
    return here("yeast-promoter")


def words(texts: list[str], k: int) -> set[str]:
    """All words of either strand."""
    both = [*texts, *(t.translate(COMPLEMENT)[::-1] for t in texts)]
    return {t[i : i + k] for t in both for i in range(len(t) - k + 1)}


def least_difference(a: Sequences, b: Sequences) -> int:
    """Smallest number of differing positions between two sets of one length."""
    hot = [np.eye(4, dtype=np.float32)[s.dense()[0]].reshape(len(s), -1) for s in (a, b)]
    return int(a.max_length - (hot[0] @ hot[1].T).max())


def test_yeast_counts_and_values(yeast: SequenceDataset) -> None:
    """The numbers of the card, and those of the files: 28,037 promoters measured in one medium."""
    assert len(yeast.sequences) == 33_234
    assert (yeast.sequences.lengths == 80).all()
    assert len(set(yeast.sequences.strings())) == len(yeast.sequences)
    measured = {k: ~np.isnan(v) for k, v in yeast.values.items()}
    assert int((measured["ypd"] | measured["sd"]).sum()) == 28_037
    both = measured["ypd"] & measured["sd"]
    a, b = yeast.values["ypd"][both], yeast.values["sd"][both]
    assert np.corrcoef(a, b)[0, 1] > 0.7  # two media, one promoter: misaligned rows would give 0
    # The first row of a file, by hand.
    row = "AAAAAAAAAAAGAAAAACAAAGAAAAAGGGGGAATAACACAGCCGCGGGTAACATGAAGCGGCGCGAGCGATACTTCCGT"
    at = yeast.sequences.strings().index(row)
    assert yeast.values["ypd"][at] == pytest.approx(13.1688162850333)
    assert yeast.values["sd"][at] == pytest.approx(13.4294438558234)


@pytest.mark.parametrize(
    "sides", [("train", "valid", "test"), ("oracle-a", "oracle-b")], ids=["model", "oracles"]
)
def test_no_yeast_family_crosses(yeast: SequenceDataset, sides: tuple[str, ...]) -> None:
    """Nothing in common but chance: no word of 20 on either strand, no near twin."""
    parts = {s: yeast.split(s) for s in sides}
    seen = {s: words(p.strings(), 20) for s, p in parts.items()}
    for i, a in enumerate(sides):
        for b in sides[i + 1 :]:
            assert not seen[a] & seen[b]
            sample = parts[b][np.random.default_rng(0).permutation(len(parts[b]))[:300]]
            assert least_difference(sample, parts[a]) > 20
    joined = np.concatenate([yeast.splits[s] for s in sides])
    assert len(np.unique(joined)) == len(joined)


def test_a_random_split_would_cross(yeast: SequenceDataset) -> None:
    """What the split by family is for: random halves share trajectories."""
    order = np.random.default_rng(0).permutation(len(yeast.sequences))
    a, b = yeast.sequences[order[:2000]], yeast.sequences[order[2000:]]
    assert words(a.strings(), 20) & words(b.strings(), 20)
    assert least_difference(a[:300], b) < 5


def test_yeast_splits_have_their_shares(yeast: SequenceDataset) -> None:
    sizes = {s: len(i) for s, i in yeast.splits.items()}
    assert sizes["train"] + sizes["valid"] + sizes["test"] == len(yeast.sequences)
    assert sizes["oracle-a"] + sizes["oracle-b"] == 28_037
    assert abs(sizes["oracle-a"] / 28_037 - 0.5) < 0.05
    assert abs(sizes["test"] / 33_234 - 0.1) < 0.05
    # The halves are drawn independently of train and test, so each has both.
    assert len(np.intersect1d(yeast.splits["oracle-a"], yeast.splits["test"])) > 1000
    assert len(np.intersect1d(yeast.splits["oracle-b"], yeast.splits["test"])) > 1000


def test_tfbind8_is_complete_and_symmetric() -> None:
    data = here("tfbind8")
    strings = data.sequences.strings()
    assert strings == sorted(strings)
    assert len(set(strings)) == 4**8
    score = data.values["escore"]
    rank = {s: i for i, s in enumerate(strings)}
    mirror = np.asarray([rank[s.translate(COMPLEMENT)[::-1]] for s in strings])
    assert (score[mirror] == score).all()
    assert score[rank["AAAAAAAC"]] == pytest.approx(-0.12351)
    assert score[rank["GTTTTTTT"]] == pytest.approx(-0.12351)
    binding = data.values["binding"]
    assert (binding.min(), binding.max()) == (0.0, 1.0)
    assert np.corrcoef(binding, score)[0, 1] == pytest.approx(1)
    where = np.empty(4**8, int)
    for k, split in enumerate(("train", "valid", "test")):
        where[data.splits[split]] = k
    assert (where[mirror] == where).all()
    assert abs(len(data.splits["low"]) / 4**8 - 0.5) < 0.01
    with pytest.raises(ArgumentError, match="no factor 'MYC'; it has CRX"):
        load("tfbind8", factor="MYC")


def test_factors_differ() -> None:
    a, b = here("tfbind8").values["escore"], here("tfbind8", factor="CRX").values["escore"]
    assert 0 < np.corrcoef(a, b)[0, 1] < 0.99


def test_aav_splits_are_those_of_ggs() -> None:
    """2,139 and 3,448 variants, as the publication reports; the rule itself, pair by pair."""
    distance = pytest.importorskip("rapidfuzz.distance").Levenshtein.distance
    data = here("aav")
    fitness = data.values["fitness"]
    assert len(data.sequences) == 44_128
    assert len(data.splits["medium"]) == 2139
    assert len(data.splits["hard"]) == 3448
    top = data.sequences[fitness >= np.quantile(fitness, 0.99)].strings()
    rng = random.Random(0)
    for level, gap, high in (("medium", 6, 0.4), ("hard", 7, 0.3)):
        assert data.split_values(level, "fitness").max() <= np.quantile(fitness, high)
        for text in rng.sample(data.split(level).strings(), 20):
            assert min(distance(text, t) for t in top) >= gap
    same = identical(data.sequences)
    for a, b in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not set(same[data.splits[a]]) & set(same[data.splits[b]])


def test_missing_and_damaged_files(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("GRAPHDIFF_DATA", raising=False)
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    for name in sequence_names():
        with pytest.raises(DataError, match=f"graphdiff data fetch {name}"):
            load(name, root=tmp_path)
    entry = sources.card("aav")["files"][0]
    path = tmp_path / entry["file"]
    path.parent.mkdir(parents=True)
    path.write_text("sequence,score\nMKL,1\n", "utf-8")
    with pytest.raises(DataError, match="wrong checksum"):
        load("aav", root=tmp_path)


def test_cards_fetch_what_they_load() -> None:
    """Pinned addresses, and the same names and hashes as the loader reads."""
    for name in sequence_names():
        about = sources.card(name)
        read = about.get("files") or list(about["factors"].values())
        fetched = {e["file"]: e for e in about["fetch"]}
        for entry in read:
            assert fetched[entry["file"]]["sha256"] == entry["sha256"]
            address = fetched[entry["file"]]["url"]
            assert address.startswith("https://raw.githubusercontent.com/")
            assert len(address.split("/")[5]) == 40  # a commit, not a branch


def test_graphs_are_no_sequences() -> None:
    with pytest.raises(ArgumentError, match="holds graphs, not sequences"):
        load_sequences("planar")
    with pytest.raises(ArgumentError, match="yeast-promoter"):
        load("no-such-set")


def test_splits_and_values_of_another_set_are_refused() -> None:
    s = Sequences.from_strings(["ACG"], DNA)
    with pytest.raises(DataError, match="points at sequence 3"):
        SequenceDataset("x", s, {"train": np.asarray([3])})
    with pytest.raises(DataError, match="must be float64 of shape"):
        SequenceDataset("x", s, {}, {"y": np.zeros(2)})
    data = SequenceDataset("x", s, {"train": np.asarray([0])}, {"y": np.asarray([2.0])})
    assert data.split_values("train", "y").tolist() == [2.0]
    with pytest.raises(ArgumentError, match="has no split 'test'; it has train"):
        data.split("test")
    with pytest.raises(ArgumentError, match="has no values 'z'; it has y"):
        data.split_values("train", "z")


# -- families -------------------------------------------------------------------------------------


def reference_families(texts: list[str], same: int | None, anywhere: int | None) -> list[int]:
    """By comparing every pair: equal, s letters in a row in place, or a anywhere or mirrored."""

    def related(a: str, b: str) -> bool:
        if a == b:
            return True
        if same is not None:
            run = 0
            for x, y in zip(a, b, strict=False):
                run = run + 1 if x == y else 0
                if run >= same:
                    return True
        return anywhere is not None and bool(words([a], anywhere) & words([b], anywhere))

    label = list(range(len(texts)))
    for i in range(len(texts)):
        for j in range(i):
            if related(texts[i], texts[j]):
                old, new = label[i], label[j]
                label = [new if x == old else x for x in label]
    order: dict[int, int] = {}
    return [order.setdefault(x, len(order)) for x in label]


@pytest.mark.parametrize(("same", "anywhere"), [(5, 7), (None, 6), (4, None), (None, None)])
def test_families_against_all_pairs(same: int | None, anywhere: int | None) -> None:
    rng = random.Random(1)
    texts = ["".join(rng.choice("ACGT") for _ in range(rng.randint(3, 18))) for _ in range(120)]
    texts += [t[2:] + "A" for t in texts[:20]] + texts[5:8]
    texts += [t.translate(COMPLEMENT)[::-1] for t in texts[30:40]]
    found = families(Sequences.from_strings(texts, DNA), same=same, anywhere=anywhere)
    expected = reference_families(texts, same, anywhere)
    assert found.tolist() == expected
    assert 1 < len(set(expected)) < len(texts)


def test_splits_follow_families() -> None:
    rng = random.Random(2)
    texts = ["".join(rng.choice("ACGT") for _ in range(40)) for _ in range(300)]
    texts += [t[:-2] + "AA" for t in texts]
    sequences = Sequences.from_strings(texts, DNA)
    group = families(sequences)
    parts = draw_splits(sequences, group, {"a": 0.7, "b": 0.3}, "x")
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(600))
    assert not set(group[parts["a"]]) & set(group[parts["b"]])
    assert abs(len(parts["a"]) / 600 - 0.7) < 0.1
    other = draw_splits(sequences, group, {"a": 0.7, "b": 0.3}, "y")
    assert not np.array_equal(other["a"], parts["a"])
    order = np.random.default_rng(0).permutation(600)
    turned = draw_splits(sequences[order], families(sequences[order]), {"a": 0.7, "b": 0.3}, "x")
    assert set(sequences[order][turned["a"]].strings()) == set(sequences[parts["a"]].strings())
    with pytest.raises(ArgumentError, match="sum to 1"):
        draw_splits(sequences, group, {"a": 0.7})
    with pytest.raises(ArgumentError, match="1 to 32 letters"):
        families(sequences, same=33)
    with pytest.raises(ArgumentError, match="1 to 14 letters"):
        families(Sequences.from_strings(["MKL"], PROTEIN), same=15)


def test_all_words() -> None:
    found = all_words(3).strings()
    assert found == sorted(found)
    assert len(set(found)) == 64
