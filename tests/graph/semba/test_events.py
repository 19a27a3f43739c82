"""Signed events: columns, files, public sets; what is refused and what is sorted."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from graphdiff.core.errors import ArgumentError, DataError
from graphdiff.data import sources
from graphdiff.data.signed import SignedEvents
from graphdiff.data.signed_files import load_signed, read_events, signed_names

COLUMNS = ([7, 500, 7], [500, 7, 9], [1, -2, 3.5], [0, 1, 1])


def needs(name: str) -> pytest.MarkDecorator:
    held = sources.find([sources.card(name)["files"][0]["file"]])
    return pytest.mark.skipif(held is None, reason=f"GRAPHDIFF_DATA holds no {name}")


def test_numbers_are_in_the_order_of_appearance() -> None:
    events = SignedEvents.of(*COLUMNS)
    assert events.source.tolist() == [0, 1, 0]
    assert events.target.tolist() == [1, 0, 2]
    assert events.nodes.tolist() == [7, 500, 9]
    assert events.sign.tolist() == [1, -1, 1]
    longer = events.extended([9, 1], [7, 9], [1, 1], [5, 6])
    assert longer.nodes[:3].tolist() == [7, 500, 9]
    assert (longer.source[:3] == events.source).all()
    assert len(SignedEvents.of(["a", "a"], ["b", "b"], [1, 1], [0, 0])) == 2  # events, not edges


def test_events_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        SignedEvents.of(*COLUMNS).weight[0] = 9


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        (
            ([1, 2], [2, 3], [1, 1], [5, 4]),
            r"at 1 places, first at event 1 \(4 after 5",
        ),
        (([1, 2], [2, 2], [1, 1], [0, 1]), r"1 self-loops, first at event 1 \(node 2"),
        (([1, 2], [2, 3], [1, 0], [0, 1]), "weight 0, which has no sign, first event 1"),
        (([1, 2], [2, 3], [np.nan, 1], [0, 1]), "a weight that is not finite, first event 0"),
        (([1, 2], [2, 3], [1, 1], [0, np.inf]), "a time that is not finite"),
        (([1, 2], [2, 3, 4], [1, 1], [0, 1]), "columns of one length"),
        (([], [], [], []), "no events"),
        ((["a"], ["b"], ["much"], [0]), "weights must be numbers"),
    ],
)
def test_bad_columns(columns, match) -> None:
    with pytest.raises(DataError, match=match):
        SignedEvents.of(*columns)


def test_sorted_and_dropped_on_request() -> None:
    columns = ([1, 2, 3, 4], [2, 3, 3, 1], [1, 2, 3, 4], [9, 1, 1, 1])
    events = SignedEvents.of(*columns, order="sort", loops="drop")
    assert events.weight.tolist() == [2, 4, 1]  # ties keep their order
    assert events.about == {"sorted": 1, "loops_dropped": 1}
    with pytest.raises(ArgumentError, match="expected order 'refuse' or 'sort'"):
        SignedEvents.of(*columns, order="shuffle")  # type: ignore[arg-type]


def test_split_is_that_of_pyg() -> None:
    rng = np.random.default_rng(0)
    u = rng.integers(0, 30, 500)
    time = np.sort(rng.integers(0, 60, 500)).astype(float)
    events = SignedEvents.of(u, u + 1, rng.choice([-1, 1], 500), time)
    split = events.split()
    parts = events.to_pyg().train_val_test_split(0.15, 0.15)
    assert [len(part.src) for part in parts] == [
        split.train, split.valid - split.train, split.end - split.valid
    ]  # fmt: skip
    assert events.time[split.train - 1] < events.time[split.train]
    with pytest.raises(ArgumentError, match="leave some events to train on"):
        events.split(0.5, 0.5)
    with pytest.raises(ArgumentError, match="too many share one instant"):
        SignedEvents.of([1, 2], [2, 3], [1, 1], [0, 0]).split()


def test_there_and_back_by_pyg() -> None:
    events = SignedEvents.of(*COLUMNS)
    data = events.to_pyg()
    again = SignedEvents.from_pyg(data)
    assert again.sha256() == events.sha256()
    data.y = -data.msg[:, 0]
    assert (SignedEvents.from_pyg(data, weight="y").weight == -events.weight).all()
    with pytest.raises(DataError, match=r"has no rating: expected src, dst, t"):
        SignedEvents.from_pyg(data, weight="rating")


FILES = {
    "plain.csv": "7,500,1,0\n500,7,-2,1\n7,9,3.5,1\n",
    "head.csv": "time,weight,target,source\n0,1,500,7\n1,-2,7,500\n1,3.5,9,7\n",
    "sign.tsv": "source\ttarget\tsign\ttime\n7\t500\t1\t0\n500\t7\t-2\t1\n7\t9\t3.5\t1\n",
    "dates.csv": "7,500,1,1970-01-01\n500,7,-2,1970-01-01T00:00:01\n"
    "7,9,3.5,1970-01-01T01:00:01+01:00\n",
    "space.txt": "# signed\n7 500 1 0\n\n500 7 -2 1\n7 9 3.5 1\n",
    "marked.csv": "\ufeff7;500;1;0\r\n500;7;-2;1\r\n7;9;3.5;1\r\n",
}


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path, name) -> None:
    (tmp_path / name).write_text(FILES[name], "utf-8", newline="")
    assert read_events(tmp_path / name).sha256() == SignedEvents.of(*COLUMNS).sha256()
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(FILES[name].encode()))
    assert read_events(tmp_path / f"{name}.gz").nodes.tolist() == [7, 500, 9]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("1,2,3\n", r"line 1: found \['1', '2', '3'\]"),
        ("1,2,1,0\n1,2,x,1\n", "line 2"),
        ("1,2,1,yesterday\n", "line 1"),
        ("a,b,c,d\n1,2,1,0\n", "found no source, target, weight, time"),
        ("", "holds no events"),
    ],
)
def test_bad_files(tmp_path, text, match) -> None:
    path = tmp_path / "events.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(DataError, match=match):
        read_events(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read_events(path)


def test_names_of_your_own_columns(tmp_path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("who,whom,stars,when\nann,bob,-1,4\n", "utf-8")
    events = read_events(path, ("who", "whom", "stars", "when"))
    assert events.nodes.tolist() == ["ann", "bob"]


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs(n)) for n in signed_names()])
def test_public_sets_say_what_their_cards_say(name) -> None:
    events, about = load_signed(name), sources.card(name)
    assert len(events) == about["events"]
    assert events.num_nodes == about["nodes"]
    assert (events.sign > 0).mean() == pytest.approx(about["positive"], abs=1e-4)
    assert (np.diff(events.time) >= 0).all()
    assert about["fetch"][0]["sha256"] == about["files"][0]["sha256"] == events.about["sha256"]


def test_missing_and_damaged_sets(tmp_path) -> None:
    with pytest.raises(ArgumentError, match="known are bitcoin-otc, bitcoin-alpha"):
        load_signed("bitcoin")
    with pytest.raises(DataError, match="found none of"):
        load_signed("bitcoin-otc", tmp_path)
    path = tmp_path / sources.card("bitcoin-otc")["files"][0]["file"]
    path.parent.mkdir(parents=True)
    path.write_text("1,2,3,4\n", "utf-8")
    with pytest.raises(DataError, match="wrong checksum"):
        load_signed("bitcoin-otc", tmp_path)
