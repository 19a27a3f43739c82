"""Files of signed events: nothing is swallowed, nodes that are written differently stay two."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphdiff.core.errors import DataError
from graphdiff.data.signed_files import read_events

PLAIN = "7,500,1,0\n500,7,-2,1\n7,9,3.5,1\n"


def read(path: Path, text: str):
    file = path / "events.csv"
    file.write_text(text, "utf-8", newline="")
    return read_events(file)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace("\n", "\r"),
        "# rater, rated; date\n\n" + PLAIN.replace(",", "\t"),
        '% it says "so\n' + PLAIN,
        PLAIN.replace(",", "  "),
        "  7 500   1 0 \n500 7 -2 1\n7  9  3.5  1",
        '"7", "500", 1, 0\n500,7,-2,1\n7,9,3.5,1\n',
    ],
    ids=["cr", "comment", "quote in comment", "two blanks", "aligned", "quoted"],
)
def test_the_same_events_however_they_are_written(tmp_path, text) -> None:
    found = read(tmp_path, text)
    assert found.nodes.tolist() == [7, 500, 9]
    assert found.sha256() == read(tmp_path, PLAIN).sha256()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('1,2,1,0\n1,"3,1,1\n2,3,1,2\n', r"line 2: unexpected end of data; mend the quotation"),
        ('1,2,1,0\na,"b,1,1\nc,d",1,2\n', r"line 2: a quotation goes on in the next line"),
        ('1,"2"3,1,0\n', r"line 1: .*mend the quotation"),
        ("a,b,1,0\na,,1,5\n", r"line 2: .*a node without a name"),
        ("1\t2\t1\t0\n\t3\t1\t5\t6\n", r"line 2: .*a node without a name"),
        (f"a,{'b' * 200_000},1,0\n", r"line 1: field larger than"),
    ],
)
def test_what_is_not_one_line_of_four_cells_is_refused(tmp_path, text, match) -> None:
    with pytest.raises(DataError, match=match):
        read(tmp_path, text)


@pytest.mark.parametrize("other", ["01", "1_0", "+1", "-0"])
def test_nodes_are_numbers_only_if_they_are_written_so(tmp_path, other) -> None:
    found = read(tmp_path, f"1,2,1,0\n10,0,1,1\n{other},2,1,2\n")
    assert found.nodes.tolist() == ["1", "2", "10", "0", other]
