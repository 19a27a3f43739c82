"""Rewards: decoding, remembering, failures, processes, sums and windows, parsing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from graphdiff.core.errors import ArgumentError, RewardError
from graphdiff.core.state import State
from graphdiff.finetune.reward import ItemReward, Sum, Window
from graphdiff.finetune.specs import OwnScore, parse_rewards


def state_of(values: list[int]) -> State:
    return State({"x": torch.tensor(values)}, {}, torch.arange(len(values)))


def decode(state: State) -> list[Any]:
    """Numbers; a negative one cannot be decoded."""
    return [None if v < 0 else int(v) for v in state["x"].tolist()]


def root(item: int) -> float:
    """At the top level, so that other processes find it."""
    return math.sqrt(item)


def test_scores_come_in_the_order_of_the_samples() -> None:
    reward = ItemReward(decode, root)
    got = reward(state_of([4, 9, 0]))
    assert got.tolist() == [2, 3, 0]
    assert got.dtype == torch.float64


def test_equal_items_are_scored_once() -> None:
    asked: list[int] = []

    def score(item: int) -> float:
        asked.append(item)
        return item

    reward = ItemReward(decode, score, key=lambda i: i, remember=2)
    assert reward(state_of([5, 5, 6, 5])).tolist() == [5, 5, 6, 5]
    assert reward(state_of([6, 5])).tolist() == [6, 5]
    assert asked == [5, 6]
    assert reward.computed == 2
    reward(state_of([7, 8, 9]))
    assert len(reward._known) == 2
    assert ItemReward(decode, score)(state_of([3, 3])).tolist() == [3, 3]
    assert asked[-2:] == [3, 3]  # without a key nothing is remembered
    assert ItemReward(decode, score, key=lambda i: None)(state_of([3, 4])).tolist() == [3, 4]


def test_what_cannot_be_scored_is_dropped_and_counted() -> None:
    def score(item: int) -> float:
        if item == 3:
            raise ValueError("no threes")
        return {4: math.nan, 5: math.inf}.get(item, float(item))

    reward = ItemReward(decode, score)
    got = reward(state_of([1, 2, 3, 4, 5, -1, 6, 7, 8, 9, 10]))
    never = -math.inf
    assert got.tolist() == [1, 2, never, never, never, never, 6, 7, 8, 9, 10]
    assert reward.failed == 4


def test_too_many_failures_stop_with_the_first_error() -> None:
    def broken(item: int) -> float:
        raise KeyError("ring")

    reward = ItemReward(decode, broken, name="mine", max_failures=0.5)
    reward(state_of([1, 2, 3]))  # a handful may always fail
    with pytest.raises(
        RewardError, match=r"'mine' failed for 20 of 20 samples \(KeyError: 'ring'\)"
    ):
        reward(state_of(list(range(20))))
    with pytest.raises(RewardError, match="could not be decoded"):
        ItemReward(decode, root)(state_of([-1] * 10))
    with pytest.raises(RewardError, match="2 items were decoded from 3 samples"):
        ItemReward(lambda s: [1, 2], root)(state_of([1, 2, 3]))
    with pytest.raises(ArgumentError, match="max_failures"):
        ItemReward(decode, root, max_failures=2)


@pytest.mark.slow
def test_processes_give_the_same_scores(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def twice(x):\n    return 2 * x\n")
    values = list(range(40))
    reward = ItemReward(decode, OwnScore(f"{file}:twice"), workers=2)
    assert reward(state_of(values)).tolist() == [2.0 * v for v in values]
    reward.close()
    broken = ItemReward(decode, len, workers=2)
    with pytest.raises(RewardError, match="TypeError"):
        broken(state_of(values))
    broken.close()


def test_sums_and_windows() -> None:
    a, b = ItemReward(decode, float, "a"), ItemReward(decode, root, "b")
    total = Sum(((2.0, a), (-1.0, b)))
    got = total(state_of([4, 9, -1]))
    assert got.tolist() == [6, 15, -math.inf]
    assert total.name == "2*a + -1*b"
    assert not total.differentiable
    window = Window(a, 3, 5)
    assert window(state_of([1, 3, 4, 5, 9, -1])).tolist() == [-2, 0, 0, 0, -4, -math.inf]
    assert window.name == "a:3..5"
    with pytest.raises(ArgumentError, match="before it begins"):
        Window(a, 2, 1)
    with pytest.raises(ArgumentError, match="at least one"):
        Sum(())


def test_specs_are_parsed(tmp_path: Path) -> None:
    known = {"size": float, "root": root}
    one = parse_rewards(["size"], known, decode)
    assert isinstance(one, ItemReward)
    assert one(state_of([7])).tolist() == [7]
    many = parse_rewards(["0.5*size", "root:1..2", "-1*size:..3"], known, decode)
    #                      4.5       -(3 - 2)      -1 * -(9 - 3)
    assert many(state_of([9])).tolist() == [4.5 - 1 + 6]
    file = tmp_path / "own.py"
    file.write_text("def near(x):\n    return -abs(x - 4)\n\nLEVEL = 3\n")
    own = parse_rewards([f"2*{file}:near"], known, decode)
    assert own(state_of([1, 4])).tolist() == [-6, 0]
    window = parse_rewards([f"{file}:near:-1..0"], known, decode)
    assert window(state_of([1, 4])).tolist() == [-2, 0]
    assert parse_rewards(["math:sqrt"], known, decode)(state_of([16])).tolist() == [4]


WRONG = [
    ("sise", "unknown reward 'sise'.*root, size"),
    ("x*size", "'x' in the reward 'x\\*size' is no number"),
    ("size:1..b", "'b' in the reward"),
    ("size:5..1", "before it begins"),
    ("none.py:f", "no file none.py"),
    ("no_such_module:f", "cannot import"),
    ("math:nothing", "no function 'nothing'"),
]


@pytest.mark.parametrize(("spec", "message"), WRONG, ids=[spec for spec, _ in WRONG])
def test_wrong_specs_are_named(spec: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        parse_rewards([spec], {"size": float, "root": root}, decode)
    with pytest.raises(ArgumentError, match="no reward is named"):
        parse_rewards([], {}, decode)
