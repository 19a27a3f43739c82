"""Search spaces: encodings, members, isomorphism, random draws, neighbours, own spaces."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError, ConfigError
from graphdiff.graph.nag.space import Architectures, SearchSpace, chain
from graphdiff.graph.nag.spaces import (
    DAG,
    MobileNetV3,
    NASBench201,
    NASBenchMacro,
    find_space,
    space_names,
)

DATA = Path(os.environ.get("GRAPHDIFF_DATA", "")) / "graphgen"
CSV = DATA / "nasbench201" / "nats_bench.csv"
OFA = DATA / "ofa_mbv3" / "ofa_mbv3_5000.npz"
SPACES = (NASBench201, MobileNetV3, NASBenchMacro, DAG)


@pytest.fixture(scope="module")
def cells() -> Architectures:
    found = NASBench201().everything()
    assert found is not None
    return found


def same(a: Architectures, b: Architectures) -> bool:
    return bool((a.ops == b.ops).all() and (a.wires == b.wires).all())


# -- NAS-Bench-201 --------------------------------------------------------------------------------


def test_every_cell_is_valid_and_survives_both_encodings(cells) -> None:
    space = NASBench201()
    assert len(cells) == space.size == 5**6
    assert len(np.unique(cells.ops, axis=0)) == 5**6
    assert space.valid(cells).all()
    texts = [space.text(arch) for arch in cells]
    assert len(set(texts)) == len(texts)
    assert same(Architectures.join([space.parse(text) for text in texts]), cells)
    assert same(Architectures.join([space.read(space.describe(a)) for a in cells]), cells)


def test_the_wiring_is_that_of_the_four_tensors(cells) -> None:
    # An operation on a -> b feeds those on b -> c; written out by hand.
    places = {(0, 1): 1, (0, 2): 2, (1, 2): 3, (0, 3): 4, (1, 3): 5, (2, 3): 6}
    expected = {(0, 1), (0, 2), (0, 4), (4, 7), (5, 7), (6, 7)}
    expected |= {(1, 3), (1, 5), (2, 6), (3, 6)}
    assert {tuple(edge) for edge in np.argwhere(cells.wires[0]).tolist()} == expected
    assert len(places) == 6


def test_keys_partition_the_space_and_functions_are_coarser(cells) -> None:
    space = NASBench201()
    keys = [space.key(arch) for arch in cells]
    functions = [space.function(arch) for arch in cells]
    assert len(set(keys)) == 6466
    assert len(set(functions)) == 4930
    assert len(set(zip(keys, functions, strict=True))) == 6466  # a key has one function


@pytest.mark.skipif(not CSV.is_file(), reason="GRAPHDIFF_DATA holds no NAS-Bench-201 table")
def test_keys_agree_with_the_published_unique_strings() -> None:
    space = NASBench201()
    with CSV.open(newline="") as file:
        rows = list(csv.DictReader(file))
    keys = [space.key(space.parse(row["ArchitectureString"])) for row in rows]
    published = [row["UniqueString"] for row in rows]
    assert len(set(keys)) == len(set(published)) == len(set(zip(keys, published, strict=True)))


def test_swapping_two_tensors_that_do_not_see_each_other_keeps_the_function() -> None:
    space, rng = NASBench201(), np.random.default_rng(0)
    ops = rng.integers(0, 5, (50, 6))
    ops[:, 2] = 0  # no edge between tensors 1 and 2: exchanging them is an isomorphism
    swapped = ops[:, [1, 0, 2, 3, 5, 4]]
    for a, b in zip(space.cells(ops), space.cells(swapped), strict=True):
        assert space.function(a) == space.function(b)


@pytest.mark.parametrize("text", ["", "|none~0|", "|none~0|+|none~0|none~1|+|none~0|none~1|max~2|"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no cell of NAS-Bench-201, expected as"):
        NASBench201().parse(text)


def test_wrong_types_and_wires_are_invalid(cells) -> None:
    space = NASBench201()
    bad = Architectures(cells.ops[:6].copy(), cells.wires[:6].copy())
    bad.ops[0, 0] = 1  # an output as the input
    bad.ops[1, 3] = 0  # an input as an operation
    bad.ops[2, 4] = -1  # undecided
    bad.wires[3, 0, 7] = True  # one wire too many
    bad.wires[4, 0, 1] = False  # one too few
    assert space.valid(bad).tolist() == [False] * 5 + [True]


# -- other spaces ---------------------------------------------------------------------------------


def test_mobilenetv3_has_no_gaps() -> None:
    space = MobileNetV3()
    kernel, expand = np.full((1, 20), 5), np.full((1, 20), 4)
    whole = space.subnets(kernel, expand, np.array([[4, 3, 2, 4, 2]]))
    assert space.types[whole.ops[0, 0]] == "k5_e4"
    assert (whole.ops[0] == space.blank).nonzero()[0].tolist() == [7, 10, 11, 18, 19]
    assert space.valid(whole).all()
    gap = Architectures(whole.ops.copy(), whole.wires)
    gap.ops[0, 2] = space.blank  # third block skipped, fourth there
    short = Architectures(whole.ops.copy(), whole.wires)
    short.ops[0, [1, 2, 3]] = space.blank  # one block alone
    assert not space.valid(gap).any()
    assert not space.valid(short).any()
    assert space.size is None
    # 9 ** 2 (1 + 9 + 9 ** 2) stages out of 9 ** 2 10 ** 2: what a random choice satisfies.
    guess = space._guess(20_000, np.random.default_rng(1))
    rate = 0.91**5
    assert abs(space.valid(guess).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / 20_000)


@pytest.mark.skipif(not OFA.is_file(), reason="GRAPHDIFF_DATA holds no sub-networks of OFA")
def test_all_published_subnetworks_are_members() -> None:
    found = np.load(OFA, allow_pickle=False)
    space = MobileNetV3()
    archs = space.subnets(found["ks"], found["e"], found["d"])
    assert space.valid(archs).all()
    there = archs.ops != space.blank
    names = np.array(space.types)[archs.ops]
    expected = np.char.add(np.char.add("k", found["ks"].astype(str)), "_e")
    assert (names == np.char.add(expected, found["e"].astype(str)))[there].all()
    assert (there.reshape(-1, 5, 4).sum(2) == found["d"]).all()


def test_macro_is_all_of_three_to_the_eight() -> None:
    found = NASBenchMacro().everything()
    assert found is not None
    assert len(np.unique(found.ops, axis=0)) == 3**8
    assert (found.wires == np.diag(np.ones(7, bool), 1)).all()


def test_dag_rules() -> None:
    space = DAG()
    line = space.wired(np.zeros((1, 8), int), chain(8)[None])
    assert space.valid(line).all()
    for (a, b), good in (((0, 7), True), ((2, 1), False)):  # a short cut; an edge back
        other = Architectures(line.ops, line.wires.copy())
        other.wires[0, a, b] = True
        assert space.valid(other).tolist() == [good]
    unread = Architectures(line.ops, line.wires.copy())
    unread.wires[0, 3, 4] = False
    unread.wires[0, 2, 4] = True  # all read something, but nothing reads 3
    assert not space.valid(unread).any()
    with pytest.raises(ArgumentError, match="edges of 'dag' are searched as well; give wires"):
        space.wired(line.ops)


@pytest.mark.parametrize("kind", SPACES)
def test_draws_are_valid_and_neighbours_differ_in_one_place(kind) -> None:
    space, rng = kind(), np.random.default_rng(2)
    archs = space.draw(30, rng)
    assert len(archs) == 30
    assert space.valid(archs).all()
    assert len(space.draw(0, rng)) == 0
    for arch in archs[:5]:
        near = space.neighbours(arch)
        places = (near.ops != arch.ops).sum(1) + (near.wires != arch.wires).sum((1, 2))
        assert (places == 1).all()
        assert space.valid(near).all()
        assert len({space.describe(a).__repr__() for a in near}) == len(near)
        step = space.mutate(arch, rng)
        assert any(same(step, other) for other in near)
    if kind in (NASBench201, NASBenchMacro):  # nothing but choices: all neighbours are members
        assert len(near) == sum(len(kinds) - 1 for kinds in space.choices)


@pytest.mark.parametrize("kind", SPACES)
def test_describe_and_features_tell_architectures_apart(kind) -> None:
    space = kind()
    archs = space.draw(40, np.random.default_rng(3))
    archs.ops[0, 1] = -1
    assert same(Architectures.join([space.read(space.describe(a)) for a in archs]), archs)
    decided = archs[1:]
    different = len({(a.ops.tobytes(), a.wires.tobytes()) for a in decided})
    features = np.concatenate(space.features(decided), 1)
    assert len(np.unique(features, axis=0)) == different
    with pytest.raises(ArgumentError, match=f"expected an architecture of '{space.name}'"):
        space.read({"space": "other", "nodes": []})


# -- uniform draws --------------------------------------------------------------------------------


class Small(SearchSpace):
    name = "small"
    types = ("x", "y", "z")
    choices = ((0, 1, 2),) * 3
    wiring = chain(3)

    def rules(self, archs: Architectures) -> np.ndarray:
        return archs.ops[:, 0] != archs.ops[:, 2]


class Uneven(Small):
    """Five per cent more of one type in one place."""

    def _guess(self, n: int, rng: np.random.Generator) -> Architectures:
        ops = rng.integers(0, 3, (n, 3))
        ops[rng.random(n) < 0.05, 1] = 0
        return self.wired(ops)


def uniform_p(space: SearchSpace) -> float:
    """p-value of the chi-square test that draws are uniform over the members."""
    stats = pytest.importorskip("scipy.stats")
    members = space.everything()
    assert members is not None
    number = {row.tobytes(): k for k, row in enumerate(members.ops)}
    drawn = space.draw(20_000, np.random.default_rng(4)).ops
    counts = np.bincount([number[row.tobytes()] for row in drawn], minlength=len(number))
    assert len(counts) == 18
    return float(stats.chisquare(counts).pvalue)


def test_draws_are_uniform_and_the_test_sees_five_per_cent() -> None:
    assert uniform_p(Small()) > 1e-3
    assert uniform_p(Uneven()) < 1e-3


class Never(Small):
    def rules(self, archs: Architectures) -> np.ndarray:
        return np.zeros(len(archs), bool)


def test_rules_that_nothing_satisfies_are_reported() -> None:
    with pytest.raises(ArgumentError, match=r"fewer than one in a thousand .* override draw\(\)"):
        Never().draw(1, np.random.default_rng(0))


def test_random_search_over_cells_is_even_in_every_place() -> None:
    ops = NASBench201().draw(20_000, np.random.default_rng(5)).ops[:, 1:7] - 2
    share = np.stack([(ops == k).mean(0) for k in range(5)])
    assert (np.abs(share - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 20_000)).all()


# -- own spaces -----------------------------------------------------------------------------------

OWN = """
from graphdiff.graph.nag.space import SearchSpace, chain

class Mine(SearchSpace):
    name = "mine"
    types = ("a", "b")
    choices = ((0, 1),) * 4
    wiring = chain(4)

class Nameless(SearchSpace):
    types = ("a", "b")
    choices = ((0, 1),) * 4

class Other:
    pass
"""


def test_own_spaces_by_file(tmp_path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    space = find_space(f"{file}:Mine")
    assert (space.name, space.nodes, space.size) == ("mine", 4, 16)
    with pytest.raises(ArgumentError, match=r"'mine' builds no torch module; .* nasbench201"):
        space.module(space.draw(1, np.random.default_rng(0)))
    with pytest.raises(ConfigError, match="has no attribute 'name'; set it"):
        find_space(f"{file}:Nameless")
    with pytest.raises(ConfigError, match=r"is no subclass of graphdiff\.graph\.nag"):
        find_space(f"{file}:Other")
    with pytest.raises(ArgumentError, match="has no function 'Nothing'; it has"):
        find_space(f"{file}:Nothing")
    with pytest.raises(ArgumentError, match="there is no file"):
        find_space(f"{tmp_path / 'gone.py'}:Mine")


def test_names() -> None:
    assert [find_space(name).name for name in space_names()] == list(space_names())
    with pytest.raises(ConfigError, match="unknown search space 'darts': known are nasbench201"):
        find_space("darts")
