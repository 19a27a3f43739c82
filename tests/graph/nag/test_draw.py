"""Pictures of architectures: what is in the file, told by its pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.nag.draw import BAD, architectures_png, draw_architectures
from graphdiff.graph.nag.space import SearchSpace, chain
from graphdiff.graph.nag.spaces import DAG, MobileNetV3, NASBench201, NASBenchMacro

RED, GREY = "#d1495b", "#7b8794"


class Own(SearchSpace):
    """A user's chain with stages and long names."""

    name = "own"
    types = tuple(f"operation-{k}" for k in range(12))
    choices = (tuple(range(12)),) * 7
    wiring = chain(7)
    stages = (3, 4)


SPACES = (NASBench201, MobileNetV3, NASBenchMacro, DAG, Own)


def pixels(png: bytes, colour: str) -> int:
    """How many pixels have a colour exactly."""
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    wanted = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return int((image == wanted).all(-1).sum())


@pytest.mark.parametrize("kind", SPACES)
def test_every_space_is_drawn_and_what_is_no_member_is_marked(kind, tmp_path) -> None:
    space = kind()
    archs = space.draw(5, np.random.default_rng(0))
    good = architectures_png(space, archs, values=[0.5, 1, 2, 3, 4])
    assert good.startswith(b"\x89PNG")
    assert pixels(good, BAD) == 0
    archs.ops[2, 3] = -1
    archs.wires[3, 6, 1] = True  # an edge back
    path = draw_architectures(space, archs, tmp_path / "a.png")
    assert pixels(path.read_bytes(), BAD) > 5  # lines are smoothed: few pixels are pure
    assert path == tmp_path / "a.png"


def test_operations_have_their_colours() -> None:
    space = NASBench201()
    cells = space.cells(np.array([[0] * 6, [3] * 6, [1] * 6]))
    none, conv, skip = (architectures_png(space, cells[k]) for k in range(3))
    # What the first has is the legend.
    assert pixels(conv, RED) > pixels(none, RED) + 300
    assert pixels(skip, GREY) > pixels(none, GREY) + 300
    assert pixels(conv, GREY) == pixels(none, GREY)


def test_count_limits_the_grid_and_the_picture_is_repeatable() -> None:
    space = NASBenchMacro()
    archs = space.draw(30, np.random.default_rng(0))
    sizes = [Image.open(io.BytesIO(architectures_png(space, archs, count=n))).size for n in (4, 9)]
    assert sizes[0][0] < sizes[1][0]
    assert architectures_png(space, archs, count=4) == architectures_png(space, archs[:4])


def test_nothing_to_draw_and_values_that_do_not_fit() -> None:
    space = NASBenchMacro()
    archs = space.draw(3, np.random.default_rng(0))
    with pytest.raises(ArgumentError, match="no architectures to draw: 0 are given"):
        architectures_png(space, archs[:0])
    with pytest.raises(ArgumentError, match="count is 0"):
        architectures_png(space, archs, count=0)
    with pytest.raises(ArgumentError, match="found 2 values for 3 architectures"):
        architectures_png(space, archs, values=[1, 2])
