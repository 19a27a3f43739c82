"""Metrics of sequences: by hand, by enumeration, and against Biopython, SciPy and scikit-learn."""

from __future__ import annotations

import itertools
import json
import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data import sources
from graphdiff.sequence.alphabet import DNA, PROTEIN, RNA
from graphdiff.sequence.dataset import SequenceDataset
from graphdiff.sequence.fasta import write_fasta
from graphdiff.sequence.metrics import evaluate_sequences
from graphdiff.sequence.metrics.distance import diversity, edit_distances, nearest
from graphdiff.sequence.metrics.entropy import letter_frequencies, position_entropy, set_entropy
from graphdiff.sequence.metrics.kmers import (
    kmer_correlation,
    kmer_counts,
    kmer_frequencies,
    kmers,
)
from graphdiff.sequence.metrics.motifs import Motif, read_motifs, score_matrix
from graphdiff.sequence.metrics.scan import Scanner, motif_correlation, spearman
from graphdiff.sequence.page import information, write_sequence_page
from graphdiff.sequence.sequences import Sequences


def dna(count: int, length: int, seed: int, weights: tuple[float, ...] = (1, 1, 1, 1)) -> Sequences:
    rng = random.Random(seed)
    return Sequences.from_strings(
        ["".join(rng.choices("ACGT", weights, k=length)) for _ in range(count)], DNA
    )


def motif(width: int, seed: int, name: str = "m") -> Motif:
    rng = np.random.default_rng(seed)
    return Motif(name, "", np.round(40 * rng.dirichlet(np.full(4, 0.4), width)) + 1)


def bio(m: Motif):
    """The same motif in Biopython, with JASPAR's pseudocounts."""
    motifs = pytest.importorskip("Bio.motifs")
    theirs = motifs.Motif("ACGT", counts={b: m.counts[:, k].tolist() for k, b in enumerate("ACGT")})
    return theirs


# -- k-mers ---------------------------------------------------------------------------------------


def test_kmer_counts_one_by_one() -> None:
    strings = ["ACGTACG", "AC", "TTTTT", "G"]
    found = kmer_counts(Sequences.from_strings(strings, DNA), 3)
    names = kmers(Sequences.empty(DNA), 3)
    assert names == ["".join(w) for w in itertools.product("ACGT", repeat=3)]
    for row, text in zip(found, strings, strict=True):
        expected = Counter(text[i : i + 3] for i in range(len(text) - 2))
        assert {w: int(c) for w, c in zip(names, row, strict=True) if c} == dict(expected)


def test_kmer_correlation_is_pearson_of_frequencies() -> None:
    a, b = dna(200, 30, 0, (3, 1, 1, 2)), dna(150, 50, 1, (2, 1, 1, 3))
    x, y = kmer_frequencies(a, 3), kmer_frequencies(b, 3)
    assert x.sum() == pytest.approx(1)
    assert kmer_correlation(a, b) == pytest.approx(np.corrcoef(x, y)[0, 1])
    # Neither the number nor the length of samples is a scale: repeating a set changes nothing.
    thrice = a[np.tile(np.arange(len(a)), 3)]
    assert kmer_correlation(thrice, b) == pytest.approx(kmer_correlation(a, b))
    assert kmer_correlation(a, a) == pytest.approx(1)
    assert np.isnan(kmer_correlation(Sequences.from_strings(["ACGT"], DNA), b, 1))


def test_kmers_of_wrong_sizes() -> None:
    with pytest.raises(ArgumentError, match="k must be at least 1"):
        kmer_counts(dna(1, 3, 0), 0)
    with pytest.raises(ArgumentError, match="at most 1000000"):
        kmer_counts(Sequences.from_strings(["MKL"], PROTEIN), 5)
    with pytest.raises(ArgumentError, match="no sequence has 4 letters"):
        kmer_frequencies(dna(2, 3, 0), 4)
    with pytest.raises(ArgumentError, match="cannot compare"):
        kmer_correlation(dna(2, 9, 0), Sequences.from_strings(["ACGU"], RNA))


# -- entropy and distance -------------------------------------------------------------------------


def test_entropies() -> None:
    entropy = pytest.importorskip("scipy.stats").entropy
    s = Sequences.from_strings(["AAC", "ACCG", "AGCG", "ATCA"], DNA)
    assert position_entropy(s)[:3].tolist() == [0.0, 2.0, 0.0]
    assert position_entropy(s)[3] == pytest.approx(entropy([1, 2], base=2))
    assert letter_frequencies(s)[3].tolist() == pytest.approx([1 / 3, 0, 2 / 3, 0])
    assert set_entropy(s) == pytest.approx(2)
    assert set_entropy(s[[0, 0, 1, 2]]) == pytest.approx(1.5)
    assert set_entropy(s[[1, 1, 1]]) == 0.0


def levenshtein(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def test_edit_distances_and_diversity() -> None:
    rng = random.Random(0)
    texts = ["".join(rng.choices("ACGT", k=rng.randint(1, 20))) for _ in range(25)]
    s = Sequences.from_strings(texts, DNA)
    expected = np.asarray([[levenshtein(a, b) for b in texts] for a in texts])
    assert np.array_equal(edit_distances(s, s), expected)
    upper = expected[np.triu_indices(25, 1)]
    assert diversity(s) == pytest.approx(upper.mean())
    assert diversity(s[[3, 3, 3]]) == 0.0
    distance, where = nearest(s[:10], s[10:])
    assert distance.tolist() == expected[:10, 10:].min(1).tolist()
    assert where.tolist() == expected[:10, 10:].argmin(1).tolist()
    with pytest.raises(ArgumentError, match="at least two"):
        diversity(s[:1])
    with pytest.raises(ArgumentError, match="reference set is empty"):
        nearest(s, Sequences.empty(DNA))


# -- motifs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [(0.25, 0.25, 0.25, 0.25), (0.31, 0.19, 0.2, 0.3)])
def test_p_values_by_enumeration(background: tuple[float, ...]) -> None:
    """All 4,096 sites of a motif of six: exact probabilities, scores, and threshold."""
    m = score_matrix(motif(6, 3), background=background)
    sites = np.asarray(list(itertools.product(range(4), repeat=6)))
    score = m.scores[np.arange(6), sites].sum(1)
    weight = np.asarray(background)[sites].prod(1)
    assert m.distribution.sum() == pytest.approx(1)
    assert len(m.distribution) == score.max() - score.min() + 1
    for s in np.unique(score)[::37]:
        assert m.p_value(s * m.step) == pytest.approx(weight[score >= s].sum(), rel=1e-9)
    assert m.p_value(score.min() * m.step) == pytest.approx(1)
    assert m.p_value((score.max() + 1) * m.step) == 0.0
    for p in (0.5, 0.01, 1e-3):
        cut = m.threshold(p)
        assert weight[score >= cut].sum() <= p < weight[score >= cut - 1].sum()
    # A motif whose best site is more likely than p has no hits at all.
    assert m.threshold(1e-9) == score.max() + 1


def test_scores_are_those_of_biopython() -> None:
    for seed, width in ((0, 8), (1, 12), (2, 19)):
        m = motif(width, seed)
        theirs = bio(m)
        background = {"A": 0.3, "C": 0.2, "G": 0.2, "T": 0.3}
        more = float(np.sqrt(m.counts.sum(1).mean()))
        pwm = theirs.counts.normalize({k: more * v for k, v in background.items()})
        pssm = pwm.log_odds(background)
        ours = score_matrix(m, background=tuple(background.values()), step=0.001)
        expected = np.stack([pssm[b] for b in "ACGT"], 1)
        assert np.abs(ours.scores * 0.001 - expected).max() <= 0.0005 + 1e-9
        # Their thresholds lie on a grid of 1/1000 of the range, one of its steps apart.
        if width > 8:
            continue  # their distribution takes minutes for wide motifs
        law = pssm.distribution(background=background, precision=10**3)
        for p in (1e-2, 1e-3):
            assert ours.threshold(p) * 0.001 == pytest.approx(law.threshold_fpr(p), abs=0.2)


@pytest.mark.parametrize("strands", ["both", "forward"])
def test_hits_are_those_of_biopython(strands: str) -> None:
    """Every site of every sequence, padded with shorter motifs and sequences beside it."""
    motifs = [motif(w, 10 + w, f"m{w}") for w in (5, 9, 14)]
    rng = random.Random(4)
    texts = ["".join(rng.choices("ACGT", k=n)) for n in (4, 5, 9, 13, 40, 800, 900)]
    s = Sequences.from_strings(texts, DNA)
    scanner = Scanner.of(motifs, p_value=1e-2, strands=strands, step=0.001)
    scores, fits = scanner.scores(s)
    counts = scanner.counts(s)
    assert counts.sum() > 10
    for k, m in enumerate(motifs):
        more = float(np.sqrt(m.counts.sum(1).mean()))
        pssm = bio(m).counts.normalize(dict.fromkeys("ACGT", more / 4)).log_odds()
        for i, text in enumerate(texts):
            room = max(len(text) - len(m) + 1, 0)
            assert fits[i, k].sum() == room
            if not room:
                assert counts[i, k] == 0
                continue
            forward = np.atleast_1d(pssm.calculate(text))
            assert np.abs(scores[0, i, k, :room] - forward).max() < 0.001 * len(m)
            cut = scanner.thresholds[k] * 0.001
            if room == 1:
                continue  # Biopython cannot search a single place
            found = list(pssm.search(text, threshold=cut, both=strands == "both"))
            places = {p % len(text) for p, _ in found}
            near = [v for v in np.ravel(scores[:, i, k, :room]) if abs(v - cut) < 0.001 * len(m)]
            assert abs(int(counts[i, k]) - len(places)) <= len(near)
            if not near:
                assert int(counts[i, k]) == len(places)
        if strands == "both":
            back = np.atleast_1d(pssm.reverse_complement().calculate(texts[-1]))
            assert np.abs(scores[1, -1, k, : len(back)] - back).max() < 0.001 * len(m)


def test_counts_do_not_depend_on_company() -> None:
    """Neither other sequences nor other motifs change a count; a strand does."""
    motifs = [motif(w, w, f"m{w}") for w in (4, 7, 11)]
    s = Sequences.from_strings([*dna(6, 60, 1).strings(), *dna(5, 7, 2).strings()], DNA)
    scanner = Scanner.of(motifs, p_value=0.02)
    whole = scanner.counts(s)
    for i in range(len(s)):
        assert np.array_equal(scanner.counts(s[i])[0], whole[i])
    for k, m in enumerate(motifs):
        assert np.array_equal(Scanner.of([m], p_value=0.02).counts(s)[:, 0], whole[:, k])
    mirrored = Sequences.from_dense(3 - s[:6].dense()[0][:, ::-1], DNA)
    assert np.array_equal(scanner.counts(mirrored), whole[:6])
    one = Scanner.of(motifs, p_value=0.02, strands="forward")
    assert not np.array_equal(one.counts(mirrored), one.counts(s[:6]))
    assert (one.counts(s) <= whole).all()
    as_rna = Sequences(s.tokens, s.ptr, RNA)
    assert np.array_equal(scanner.counts(as_rna), whole)


def test_hit_rate_is_the_p_value() -> None:
    """On random letters a site is a hit with the probability asked for."""
    scanner = Scanner.of([motif(8, 5)], p_value=0.01, strands="forward")
    s = dna(200, 500, 6)
    rate = scanner.counts(s).sum() / (200 * 493)
    exact = float(scanner.matrices[0].p_value(scanner.thresholds[0] * 0.01))
    assert exact <= 0.01
    assert rate == pytest.approx(exact, rel=0.15)


def test_a_palindrome_is_one_site() -> None:
    counts = np.full((6, 4), 1.0)
    counts[np.arange(6), DNA.encode("CACGTG")] = 99
    scanner = Scanner.of([Motif("ebox", "", counts)], p_value=1e-3)
    s = Sequences.from_strings(["TTTTCACGTGTTTTTTCACGTGAA"], DNA)
    assert scanner.counts(s).tolist() == [[2]]


def test_motif_correlation_is_spearman() -> None:
    stats = pytest.importorskip("scipy.stats")
    motifs = [motif(6, k, f"m{k}") for k in range(12)]
    scanner = Scanner.of(motifs, p_value=0.02)
    a, b = dna(100, 50, 1, (3, 1, 1, 3)), dna(120, 40, 2)
    x, y = scanner.counts(a).mean(0), scanner.counts(b).mean(0)
    assert motif_correlation(a, b, scanner) == pytest.approx(stats.spearmanr(x, y).statistic)
    tied = np.asarray([[1.0, 1, 2, 3], [4, 3, 3, 1]])
    other = np.asarray([1.0, 2, 2, 5])
    expected = [stats.spearmanr(row, other).statistic for row in tied]
    assert spearman(tied, other).tolist() == pytest.approx(expected)


def test_motif_files_agree_with_biopython(tmp_path: Path) -> None:
    bio_motifs = pytest.importorskip("Bio.motifs")
    records = pytest.importorskip("Bio.motifs.jaspar")
    source = [motif(w, w, f"MA000{w}.1") for w in (5, 8)]
    theirs = []
    for m in source:
        counts = {b: m.counts[:, k].tolist() for k, b in enumerate("ACGT")}
        theirs.append(records.Motif(m.id, f"name{len(m)}", counts=counts))
    jaspar = tmp_path / "x.jaspar"
    jaspar.write_text(bio_motifs.write(theirs, "jaspar"), "utf-8")
    rows = [
        {"matrix_id": m.id, "name": "n", "pfm": {b: m.counts[:, k].tolist() for k, b in
         enumerate("ACGT")}} for m in source
    ]  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps(rows), "utf-8")
    meme = ["MEME version 4", "", "ALPHABET= ACGT", "", "strands: + -", ""]
    meme += ["Background letter frequencies", "A 0.25 C 0.25 G 0.25 T 0.25", ""]
    for m in source:
        p = m.counts / m.counts.sum(1, keepdims=True)
        meme += [f"MOTIF {m.id} name", f"letter-probability matrix: alength= 4 w= {len(m)} "
                 f"nsites= 40 E= 0"]  # fmt: skip
        meme += [" ".join(f"{v:.9f}" for v in row) for row in p] + [""]
    (tmp_path / "x.meme").write_text("\n".join(meme) + "\n", "utf-8")
    for name in ("x.jaspar", "x.json"):
        found = read_motifs(tmp_path / name)
        assert [m.id for m in found] == [m.id for m in source]
        for a, b in zip(found, source, strict=True):
            assert np.allclose(a.counts, b.counts)
    with (tmp_path / "x.meme").open() as file:
        parsed = bio_motifs.parse(file, "minimal")
    for a, b, t in zip(read_motifs(tmp_path / "x.meme"), source, parsed, strict=True):
        assert a.name == "name"
        assert np.allclose(a.counts.sum(1), 40)
        share = b.counts / b.counts.sum(1, keepdims=True)
        assert np.allclose(a.counts / 40, share, atol=1e-8)
        assert a.consensus == str(t.consensus)


def test_jaspar_files() -> None:
    """The public files are read whole, and agree with one another."""
    folder = "sequence/jaspar/"
    paths = [
        sources.find([folder + f])
        for f in (
            "jaspar2024_core_vertebrates_nonredundant.json",
            "JASPAR2024_combined_matrices_735317.meme",
        )
    ]
    if not all(paths):
        pytest.skip("the motifs of JASPAR are not under GRAPHDIFF_DATA")
    a, b = ({m.id: m for m in read_motifs(p)} for p in paths if p)
    assert len(a) == len(b) == 879
    common = a.keys() & b.keys()
    assert len(common) > 100
    for label in common:
        p, q = (m[label].counts / m[label].counts.sum(1, keepdims=True) for m in (a, b))
        assert p.shape == q.shape
        assert np.abs(p - q).max() < 1e-3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.meme", "", "neither MEME"),
        ("x.json", "[{", "damaged JSON"),
        ("x.json", '[{"name": "x"}]', "has no id"),
        ("x.json", '[{"id": "x", "A": [1], "C": [1], "G": [1]}]', "needs rows A, C, G, T"),
        ("x.json", '[{"id": "x", "A": [1], "C": [1, 2], "G": [1], "T": [1]}]', "of one length"),
        ("x.json", '[{"id": "x", "A": [-1], "C": [1], "G": [1], "T": [1]}]', "not negative"),
        ("x.json", '[{"id": "x", "A": [0], "C": [0], "G": [0], "T": [0]}]', "without any count"),
        ("x.json", "[]", "holds no motif"),
        ("x.meme", "MEME version 4\nALPHABET= ACDEFGHIKLMNPQRSTVWY\n", "only ACGT"),
        ("x.meme", "MEME version 4\nMOTIF a\nURL x\n", "'a' has no letter-probability"),
        (
            "x.meme",
            "MEME version 4\nMOTIF a\nletter-probability matrix: alength= 4 w= 2\n1 0 0 0\n",
            "should have 2 rows",
        ),
    ],
)
def test_damaged_motif_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    with pytest.raises(DataError, match=message):
        read_motifs(path)


def test_wrong_motif_arguments() -> None:
    zero = Motif("z", "", np.asarray([[1.0, 0, 1, 1]]))
    with pytest.raises(ArgumentError, match="minus infinity"):
        score_matrix(zero, pseudocount=0)
    with pytest.raises(ArgumentError, match="four positive shares"):
        score_matrix(zero, background=(0.5, 0.5, 0, 0))
    with pytest.raises(ArgumentError, match="p_value must lie"):
        Scanner.of([zero], p_value=0)
    with pytest.raises(ArgumentError, match="no motif was given"):
        Scanner.of([])
    with pytest.raises(ArgumentError, match="these are protein"):
        Scanner.of([zero]).counts(Sequences.from_strings(["MKL"], PROTEIN))


# -- the report -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset() -> SequenceDataset:
    s = dna(1200, 40, 0, (3, 1, 1, 3))
    splits = {"train": np.arange(900), "valid": np.arange(900, 1000), "test": np.arange(1000, 1200)}
    return SequenceDataset("toy", s, splits)


MOTIFS = [motif(5, 20 + k, f"m{k}") for k in range(15)]


def test_values_are_those_of_the_functions(dataset: SequenceDataset) -> None:
    samples = dna(150, 40, 9, (2, 1, 1, 2))
    samples = samples[[*range(150), 0, 1]]
    scanner = Scanner.of(MOTIFS, p_value=1e-2)
    report = evaluate_sequences(samples, dataset, motifs=scanner)
    test, train = dataset.split("test"), dataset.split("train")
    assert report["uniqueness"].value == pytest.approx(150 / 152)
    assert report["novelty"].value == 1.0
    assert report["kmer3_correlation"].value == pytest.approx(kmer_correlation(samples, test))
    assert report["position_entropy"].value == pytest.approx(position_entropy(samples).mean())
    assert report["set_entropy"].value == pytest.approx(set_entropy(samples))
    expected = motif_correlation(samples, test, scanner)
    assert report["motif_correlation"].value == pytest.approx(expected)
    assert report["diversity"].value == pytest.approx(diversity(samples))
    assert report["nearest_train"].value == pytest.approx(nearest(samples, train)[0].mean())
    for metric in report:
        assert metric.n == 152
        if metric.interval is not None:
            assert metric.interval[0] <= metric.value <= metric.interval[1]
        assert metric.floor is not None, metric.name
    assert json.loads(report.to_json())["info"]["reference_sha256"] == test.sha256()


def test_the_same_law_is_at_the_floor_and_another_is_not(dataset: SequenceDataset) -> None:
    names = ("kmer3_correlation", "position_entropy", "motif_correlation", "diversity")
    scanner = Scanner.of(MOTIFS, p_value=1e-2)
    inside = []
    for seed in range(12):
        report = evaluate_sequences(dna(150, 40, 100 + seed, (3, 1, 1, 3)), dataset, motifs=scanner)
        for name in names:
            low, high = report[name].floor_interval or (0, 0)
            inside.append(low <= report[name].value <= high)
    assert np.mean(inside) > 0.8  # 95 % each, but the twelve share training set and reference
    other = evaluate_sequences(dna(150, 40, 5, (1, 2, 2, 1)), dataset, motifs=scanner)
    for name in ("kmer3_correlation", "motif_correlation"):
        assert other[name].value < (other[name].floor_interval or (0, 0))[0]


def test_copies_and_repeats_show(dataset: SequenceDataset) -> None:
    copies = evaluate_sequences(dataset.split("train")[:100], dataset)
    assert copies["novelty"].value == 0.0
    assert copies["nearest_train"].value == 0.0
    assert (copies["nearest_train"].floor_interval or (0, 0))[0] > 5
    same = dna(1, 40, 8)[np.zeros(100, int)]
    collapsed = evaluate_sequences(same, dataset)
    assert collapsed["uniqueness"].value == pytest.approx(0.01)
    assert collapsed["diversity"].value == collapsed["set_entropy"].value == 0.0
    assert collapsed["position_entropy"].value == 0.0


def test_floor_of_diversity_is_not_lowered_by_drawing_twice(dataset: SequenceDataset) -> None:
    """A small training set, drawn many times: pairs of one sequence with itself do not count."""
    small = SequenceDataset("s", dataset.sequences, {**dataset.splits, "train": np.arange(12)})
    report = evaluate_sequences(dna(200, 40, 3, (3, 1, 1, 3)), small)
    expected = diversity(small.split("train"))
    assert report["diversity"].floor == pytest.approx(expected, rel=0.02)


def test_different_lengths_and_no_training_split() -> None:
    s = Sequences.from_strings([*dna(50, 20, 0).strings(), *dna(50, 30, 1).strings()], DNA)
    data = SequenceDataset("v", s, {"test": np.arange(100)})
    report = evaluate_sequences(dna(60, 30, 2), data, train=None, distances=False)
    assert report["length"].value == 30
    assert "position_entropy" not in report
    assert "novelty" not in report
    assert all(m.floor is None for m in report)
    assert any("no training split" in w for w in report.warnings)
    few = evaluate_sequences(dna(5, 30, 2), SequenceDataset("v", s, {"test": np.arange(50),
                             "train": np.arange(50, 100)}))  # fmt: skip
    assert any("only 50 reference" in w for w in few.warnings)
    assert any("n = 5 is too small" in w for w in few.warnings)


def test_wrong_sets(dataset: SequenceDataset) -> None:
    with pytest.raises(ArgumentError, match="samples are protein"):
        evaluate_sequences(Sequences.from_strings(["MKL"], PROTEIN), dataset)
    with pytest.raises(ArgumentError, match="generated sequences is empty"):
        evaluate_sequences(Sequences.empty(DNA), dataset)
    with pytest.raises(ArgumentError, match="has no split 'dev'"):
        evaluate_sequences(dna(3, 40, 0), dataset, reference="dev")


# -- the page and the command ---------------------------------------------------------------------


def test_information_is_that_of_biopython_without_correction() -> None:
    """Against the relative entropy of Biopython; the correction for n on top."""
    s = dna(400, 12, 3, (6, 1, 1, 2))
    theirs = pytest.importorskip("Bio.motifs").create(s.strings())
    expected = np.asarray(theirs.relative_entropy) - 3 / (2 * 400 * np.log(2))
    assert information(s).sum(1) == pytest.approx(np.maximum(expected, 0))
    assert (information(s[:1]) == 0).all()  # one sample tells nothing


def test_page_stands_alone(dataset: SequenceDataset, tmp_path: Path) -> None:
    from html.parser import HTMLParser

    samples = dna(30, 40, 1)
    report = evaluate_sequences(samples, dataset, distances=False)
    page = write_sequence_page(tmp_path / "r.html", samples, dataset, report).read_text("utf-8")
    assert samples.strings()[0] in page
    assert 'aria-label="sequence logo of 30 sequences' in page
    assert "kmer3_correlation" in page
    tags: list[str] = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img", "line", "rect", "path", "circle"):
                tags.append(tag)
            assert not any(k in ("src", "href") for k, _ in attrs)

        def handle_endtag(self, tag):
            assert tags.pop() == tag

        def handle_startendtag(self, tag, attrs):
            pass

    Balance().feed(page)
    assert not tags


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture):
    from graphdiff.cli.app import main

    def call(*words: object, rc: int = 0) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["graphdiff", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capfd.readouterr()
        assert left.value.code == rc, out + err
        return out, err

    return call


def test_evaluate_fasta_folder_and_samples(run, tmp_path: Path) -> None:
    reference = write_fasta(tmp_path / "mine.fa", dna(300, 30, 0))
    samples = dna(40, 30, 1)
    out, _ = run("evaluate", write_fasta(tmp_path / "a.fa.gz", samples), "--dataset", reference,
                 "--json")  # fmt: skip
    first = json.loads(out)
    assert first["n"] == 40
    assert first["dataset"] == "mine"
    folder = tmp_path / "folder"
    folder.mkdir()
    write_fasta(folder / "1.fa", samples[:20])
    write_fasta(folder / "2.fa", samples[20:])
    out, _ = run("evaluate", folder, "--dataset", reference, "--json", "--report")
    drop = ("seconds", "info")
    second = json.loads(out)
    assert {k: v for k, v in second.items() if k not in drop} == {
        k: v for k, v in first.items() if k not in drop
    }
    assert (folder / "report.html").is_file()
    assert (folder / "metrics.json").is_file()
    made = tmp_path / "made"
    made.mkdir()
    samples.save(made / "samples.npz")
    about = {"request": {"kind": "mdlm", "model": "m"}, "info": {}, "dataset": str(reference)}
    (made / "samples.json").write_text(json.dumps(about), "utf-8")
    out, _ = run("evaluate", made, "--json")
    third = json.loads(out)
    assert third["kmer3_correlation"] == first["kmer3_correlation"]
    assert third["samples"]["request"]["kind"] == "mdlm"


def test_evaluate_reads_with_the_alphabet_of_the_data(run, tmp_path: Path) -> None:
    rng = random.Random(0)
    peptides = ["".join(rng.choices("ACDEFGHIKL", k=12)) for _ in range(200)]
    reference = write_fasta(tmp_path / "p.faa", peptides)
    looks_like_dna = write_fasta(tmp_path / "s.faa", ["GACAGACATTAC", "GATTACAGATTA"])
    out, _ = run("evaluate", looks_like_dna, "--dataset", reference, "--json")
    assert "kmer2_correlation" in json.loads(out)
    genome = write_fasta(tmp_path / "d.fa", dna(100, 12, 0))
    _, err = run("evaluate", reference, "--dataset", genome, rc=2)
    assert "no letter of the dna alphabet" in err


def test_evaluate_refuses_what_does_not_fit(run, tmp_path: Path) -> None:
    reference = write_fasta(tmp_path / "mine.fa", dna(100, 30, 0))
    _, err = run("evaluate", reference, "--dataset", reference, "--pgd", rc=2)
    assert "--pgd scores graphs" in err
    smiles = tmp_path / "x.smi"
    smiles.write_text("CCO\nCCN\n", "utf-8")
    _, err = run("evaluate", smiles, "--dataset", reference, rc=2)
    assert "holds sequences, but the samples are graphs" in err
    _, err = run("evaluate", reference, "--dataset", "community_small", rc=2)
    assert "holds graphs, but the samples are sequences" in err
    empty = tmp_path / "e.fa"
    empty.write_text("", "utf-8")
    _, err = run("evaluate", empty, "--dataset", reference, rc=2)
    assert "is empty" in err


def test_evaluate_with_motifs(run, tmp_path: Path) -> None:
    reference = write_fasta(tmp_path / "mine.fa", dna(200, 30, 0))
    source = [motif(10, k, f"m{k}") for k in range(20)]
    records = [{"id": m.id, **{b: m.counts[:, k].tolist() for k, b in enumerate("ACGT")}}
               for m in source]  # fmt: skip
    motifs = tmp_path / "m.json"
    motifs.write_text(json.dumps(records), "utf-8")
    out, _ = run("evaluate", reference, "--dataset", reference, "--motifs", motifs, "--json")
    assert json.loads(out)["motif_correlation"] is not None
    smiles = tmp_path / "x.smi"
    smiles.write_text("CCO\nCCN\n" * 30, "utf-8")
    _, err = run("evaluate", smiles, "--dataset", smiles, "--motifs", motifs, rc=2)
    assert "leave it out for graphs" in err
