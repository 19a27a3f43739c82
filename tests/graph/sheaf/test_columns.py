"""Which features a saved model takes from another graph: columns by name, indicators by id."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import planted

from graphdiff.core.errors import ArgumentError
from graphdiff.data.nodes import NodeData, random_splits
from graphdiff.graph.evaluate.training import FitConfig
from graphdiff.graph.sheaf import SheafConfig
from graphdiff.graph.sheaf.classifier import SheafClassifier

N, FEW = 60, FitConfig(epochs=5)
IDS = tuple(f"page-{7 * k + 3}" for k in range(N))


def graph(features: bool = True) -> NodeData:
    edges, x, y = planted(N, 20, 3, 0)
    words = tuple(f"word-{k}" for k in range(20)) if features else ()
    made = NodeData.of("planted", edges, x if features else None, y, ids=IDS, columns=words)
    return replace(made, splits=random_splits(made.labels, 1))


def moved(data: NodeData, seed: int = 1) -> tuple[NodeData, torch.Tensor]:
    """The same graph with its nodes in another order, which comes second."""
    turn = torch.from_numpy(np.random.default_rng(seed).permutation(data.n))
    x = None if data.indicators else data.features[turn]
    ids = tuple(data.ids[k] for k in turn.tolist())
    edges = turn.argsort()[data.edges]
    return NodeData.of("moved", edges, x, data.labels[turn], ids=ids, columns=data.columns), turn


def fit(data: NodeData, maps: str = "diagonal") -> SheafClassifier:
    network = SheafConfig(maps, stalk=2, hidden=8)
    return SheafClassifier.fit(data, network=network, training=FEW)


def loaded(model: SheafClassifier, folder) -> SheafClassifier:
    model.save(folder)
    return SheafClassifier.load(folder)


def without_columns(model: SheafClassifier, folder) -> SheafClassifier:
    """As from a card that was written before columns were."""
    model.save(folder)
    card = json.loads((folder / "card.json").read_text())
    del card["task"]["columns"]
    (folder / "card.json").write_text(json.dumps(card))
    return SheafClassifier.load(folder)


@pytest.mark.parametrize("maps", ["diagonal", "connection"])
def test_an_indicator_belongs_to_the_id_of_a_node(tmp_path, maps):
    data = graph(features=False)
    model = fit(data, maps)
    first = model.predict(data).probabilities
    assert torch.allclose(first, model.fitted.logits.softmax(1), atol=1e-5)
    other, turn = moved(data)
    again = loaded(model, tmp_path / "m")
    second = again.predict(other)
    if maps == "diagonal":  # local PCA of indicators is not unique
        assert torch.allclose(second.probabilities, first[turn], atol=1e-5)
    assert second.ids == other.ids
    assert len(set(first.argmax(1).tolist())) > 1


def test_indicators_of_other_nodes_are_refused(tmp_path):
    data = graph(features=False)
    model = loaded(fit(data), tmp_path / "m")
    strange = replace(data, ids=("new", *IDS[1:]))
    with pytest.raises(ArgumentError, match="known by their ids alone; planted has other ids"):
        model.predict(strange)
    with pytest.raises(ArgumentError, match="planted has features"):
        model.predict(replace(data, features=torch.rand(N, N), indicators=False))
    with pytest.raises(ArgumentError, match="has no features, the model was trained with 20"):
        fit(graph()).predict(data)


def test_numbers_as_ids_are_the_rows():
    """A graph whose nodes have no names, and the same with their numbers as names."""
    data = replace(graph(features=False), ids=())
    model = fit(data)
    named = replace(data, ids=tuple(str(k) for k in range(N)))
    assert torch.equal(model.predict(named).probabilities, model.predict(data).probabilities)


def test_columns_are_found_by_name(tmp_path):
    data = graph()
    model = loaded(fit(data), tmp_path / "m")
    first = model.predict(data).probabilities
    turn = np.random.default_rng(0).permutation(20)
    shuffled = replace(
        data, features=data.features[:, turn], columns=tuple(data.columns[k] for k in turn)
    )
    assert torch.allclose(model.predict(shuffled).probabilities, first, atol=1e-6)
    unnamed = replace(shuffled, columns=())  # nothing is known: as it stands
    assert not torch.allclose(model.predict(unnamed).probabilities, first, atol=1e-3)
    renamed = replace(data, columns=("other", *data.columns[1:]))
    with pytest.raises(ArgumentError, match=r"missing: word-0; new: other; give a graph"):
        model.predict(renamed)
    wide = replace(data, features=torch.rand(N, 21), columns=(*data.columns, "more"))
    with pytest.raises(ArgumentError, match="21 features, the model was trained with 20; new"):
        model.predict(wide)


def test_cards_from_before_still_load(tmp_path):
    data, bare = graph(), graph(features=False)
    model, known = fit(data), fit(bare)
    again = without_columns(model, tmp_path / "a")
    assert again.about.columns.names == ()
    assert torch.equal(again.predict(data).probabilities, model.predict(data).probabilities)
    old = without_columns(known, tmp_path / "b")
    assert old.predict(bare).classes.shape == (N,)  # its own graph, by its edges
    with pytest.raises(ArgumentError, match="moved has no features"):
        old.predict(moved(bare)[0])
