"""The shipped graph models: complete cards, small files, and samples as good as the card says."""

from __future__ import annotations

import math

import pytest

import graphdiff
from graphdiff.model import models
from graphdiff.train.checkpoint import read_card

PAPERS = {
    "gdss": "jo2022gdss",
    "digress": "vignac2023digress",
    "defog": "qin2025defog",
    "lggm": "wang2025lggm",
    "hspectre": "bergmeister2024efficient",
}
NAMES = tuple(name for name, path in models().items() if read_card(path).kind in PAPERS)


def test_the_models_that_the_documentation_names_are_shipped() -> None:
    assert {
        "gdss-qm9", "gdss-community-small", "defog-qm9", "defog-zinc250k", "defog-ego_small",
        "defog-comm20", "hspectre-tree", "hspectre-planar", "lggm",
    } <= set(NAMES)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_cards_are_complete(name: str) -> None:
    folder = models()[name]
    card = read_card(folder)
    assert card.command is not None
    assert card.command.startswith(f"graphdiff train {name} ")
    assert card.data is not None
    assert {"name", "split", "n", "sha256"} <= set(card.data)
    assert card.licence == "Apache-2.0"
    assert PAPERS[card.kind] in card.citation
    assert card.notes
    assert card.metrics["n"] >= 100
    assert card.metrics["network_calls_per_sample"] >= 50
    exact = {"int_div"}  # metrics without an interval
    assert all(m["n"] and m["interval"] for m in card.metrics["metrics"] if m["name"] not in exact)
    # The largest network has 870,000 parameters.
    assert sum(file.stat().st_size for file in folder.iterdir()) < 4_000_000


@pytest.mark.parametrize("name", ["gdss-qm9", "defog-qm9"])
def test_qm9_samples_are_as_valid_as_the_card_says(name: str) -> None:
    """n = 300 at another seed: below the card's share by four standard errors only by a defect."""
    from graphdiff.graph.molecules import is_valid, to_molecules

    model = graphdiff.load(name)
    samples = model.samples(300, seed=11, batch_size=300)
    share = sum(map(is_valid, to_molecules(samples.raw, ("C", "N", "O", "F")))) / 300
    expected = model.card.metrics["validity_raw"]
    assert share > expected - 4 * math.sqrt(expected * (1 - expected) / 300)
    assert share > 0.9


def test_community_graphs_look_like_communities() -> None:
    """Sizes and mean degree within the range of the training set, on 20 graphs and few steps."""
    graphs = graphdiff.load("gdss-community-small").sample(20, seed=3, steps=50)
    degrees = [2 * g.number_of_edges() / max(g.number_of_nodes(), 1) for g in graphs]
    assert all(g.number_of_nodes() <= 20 for g in graphs)
    assert 3 < sum(degrees) / 20 < 7


def test_generated_trees_are_trees() -> None:
    """The card says all of 256; 24 at another seed, of which at most one may fail."""
    import networkx as nx

    graphs = graphdiff.load("hspectre-tree").sample(24, seed=11)
    assert sum(map(nx.is_tree, graphs)) >= 23
