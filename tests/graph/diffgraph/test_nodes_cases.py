"""Node classification: what is checked before a fit, and on which graphs one predicts."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from diffgraph_nodes_support import FAST, PATHS, accuracy, planted

from graphdiff.core.errors import ArgumentError, ConfigError, DataError
from graphdiff.graph.diffgraph.node_baselines import baseline
from graphdiff.graph.diffgraph.nodes import HeteroClassifier, NodeConfig


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"mode": "difusion"}, "mode: found 'difusion', expected diffusion, plain, published"),
        ({"norm": "mean"}, "norm: found 'mean'"),
        ({"norm": None}, "norm: found None"),
        ({"inputs": ("both", "feature")}, "inputs: found 'feature'"),
        ({"heads": ("both",)}, "heads: found 'both', expected target, all"),
        ({"inputs": "features"}, "inputs is a text"),
        ({"heads": "all"}, "heads is a text"),
        ({"paths": PATHS[0]}, "paths is a text"),
    ],
)
def test_names_in_the_config_are_checked(wrong, what):
    with pytest.raises(ArgumentError, match=what):
        NodeConfig(**wrong)
    with pytest.raises(ArgumentError, match="paths is a text"):
        NodeConfig.published(PATHS[0])


def test_splits_and_paths_are_checked_before_anything_is_fitted():
    graph = planted()
    good = graph.split()
    shared = replace(good, val=good.train)
    with pytest.raises(DataError, match="train and val share"):
        HeteroClassifier.fit(graph, FAST, split=shared)
    with pytest.raises(DataError, match="train and val share"):
        baseline("majority", graph, shared)
    beyond = replace(good, test=np.array([graph.n]))
    with pytest.raises(DataError, match="do not exist"):
        HeteroClassifier.fit(graph, FAST, split=beyond)
    for path in ("doc-word", "word-doc-word"):
        for config in (replace(FAST, paths=(path,)), NodeConfig.published((PATHS[0], path))):
            with pytest.raises(ArgumentError, match="must start and end at 'doc'"):
                HeteroClassifier.fit(graph, config)
        for name in ("label propagation", "sgc"):
            with pytest.raises(ArgumentError, match="must start and end at 'doc'"):
                baseline(name, graph, good, paths=(path,))


def test_one_label_of_each_class_is_enough_for_features():
    graph = planted(per_class=1)
    with pytest.raises(ArgumentError, match=r"NodeConfig\(inputs=\(\"features\",\)\)"):
        HeteroClassifier.fit(graph, FAST)
    made = HeteroClassifier.fit(graph, replace(FAST, mode="plain", inputs=("features",)))
    assert accuracy(made.log_probs(graph), graph) > 1 / 3


# -- another graph than that of the fit -----------------------------------------------------------


def test_the_order_of_relations_does_not_matter(tmp_path):
    graph = planted()
    turned = replace(graph, relations=dict(reversed(graph.relations.items())))
    made = HeteroClassifier.fit(graph, replace(FAST, mode="plain", heads=("all",)))
    assert torch.equal(made.log_probs(turned), made.log_probs(graph))
    made.save(tmp_path / "model")
    again = HeteroClassifier.load(tmp_path / "model")
    assert again.paths == made.paths
    assert torch.allclose(again.log_probs(turned), made.log_probs(graph), atol=1e-6)


@pytest.mark.parametrize("config", [replace(FAST, mode="plain"), NodeConfig.published(steps=5)])
def test_a_relation_may_have_lost_its_edges(config):
    graph = planted()
    key = ("doc", "on", "site")
    bare = replace(
        graph, relations={**graph.relations, key: sp.csr_array(graph.relations[key].shape)}
    )
    made = HeteroClassifier.fit(graph, config)
    assert np.allclose(made.predict_proba(bare).sum(1), 1, atol=1e-5)
    assert not torch.equal(made.log_probs(bare), made.log_probs(graph))
    without = {k: m for k, m in graph.relations.items() if k != key}
    with pytest.raises(ArgumentError, match="no relation"):
        made.predict(replace(graph, relations=without))


def test_other_nodes_are_refused():
    graph = planted()
    config = replace(FAST, mode="plain", inputs=("features",))
    called = np.array([f"doc {i}" for i in range(graph.n)])
    named = replace(graph, names={"doc": called})
    made = HeteroClassifier.fit(named, config)
    made.predict(replace(named, names={"doc": called.copy(), "word": np.arange(30)}))
    for other in (graph, replace(graph, names={"doc": called[::-1]})):
        with pytest.raises(ArgumentError, match="'doc' nodes of this graph have other ids"):
            made.predict(other)
    plain = HeteroClassifier.fit(graph, config)
    plain.predict(replace(graph, names={"doc": np.arange(graph.n)}))  # the ids of no names
    with pytest.raises(ArgumentError, match="other ids"):
        plain.predict(named)


def test_folders_without_paths_and_ids_are_read(tmp_path):
    graph = planted()
    made = HeteroClassifier.fit(graph, replace(FAST, mode="plain"))
    made.save(tmp_path / "model")
    card = tmp_path / "model" / "card.json"
    text = json.loads(card.read_text())
    del text["task"]["paths"], text["task"]["schema"]["ids"]
    card.write_text(json.dumps(text))
    again = HeteroClassifier.load(tmp_path / "model")
    assert torch.allclose(again.log_probs(graph), made.log_probs(graph), atol=1e-6)
    text["task"]["paths"] = [[{"key": "doc"}]]
    card.write_text(json.dumps(text))
    with pytest.raises(ConfigError, match=r"card\.task\.paths"):
        HeteroClassifier.load(tmp_path / "model")
