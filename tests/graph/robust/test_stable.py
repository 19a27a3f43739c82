"""The whole defence: settings, training, choosing, saving, and what it is fed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from robust_support import planted

from graphdiff.core.errors import ArgumentError, CheckpointError, DataError
from graphdiff.data.nodes import NodeData, random_splits
from graphdiff.data.poisoned import graph_of
from graphdiff.graph.robust import Stable, StableClassifier, StableConfig, choose, published
from graphdiff.graph.robust.baselines import fit_baseline
from graphdiff.graph.robust.encoder import EncoderConfig
from graphdiff.graph.robust.gcn import GCNConfig
from graphdiff.graph.robust.refine import likely
from graphdiff.graph.robust.stable import represent, sparse_features

SMALL = StableConfig(
    jaccard=0.05, encoder=EncoderConfig(hidden=24, epochs=60), gcn=GCNConfig(epochs=60)
)


@pytest.fixture(scope="module")
def model(graph) -> StableClassifier:
    return Stable(SMALL).fit(graph.data, runs=2, seed=1)


def right(data: NodeData, predicted: torch.Tensor) -> float:
    test = data.splits[0].test
    return float((predicted[test] == data.labels[test]).float().mean())


def test_it_beats_the_network_that_trusts_every_edge() -> None:
    data = planted(false=300).data
    model = Stable(SMALL).fit(data, runs=2, seed=1)
    plain = fit_baseline("gcn", data, runs=4, config=GCNConfig(epochs=60))
    assert right(data, model.predict()) > np.mean(plain.accuracy) + 0.05


def test_what_a_fit_says(graph, model) -> None:
    assert model.logits().shape == (2, 120, 3)
    assert torch.allclose(model.probabilities().sum(1), torch.ones(120))
    nodes = torch.tensor([5, 3])
    assert torch.equal(model.predict(nodes), model.predict()[nodes])
    refined = model.graph
    assert refined.shape == (120, 120)
    assert refined.nnz == model.info["entries"] == len(model.row)
    assert refined.diagonal().sum() == 0
    assert set(np.unique(refined.data)) == {1.0}
    kept = likely(graph.data.edges.numpy(), graph.words, SMALL.jaccard)
    assert model.info["dropped_by_features"] == int((~kept).sum())
    # More of the attacker's edges are gone than of the others.
    u, v = graph.data.edges.numpy()
    there = np.asarray(refined[u, v]).ravel() + np.asarray(refined[v, u]).ravel() > 0
    assert there[~graph.attacker].mean() > there[graph.attacker].mean() + 0.3


def test_a_fit_is_a_function_of_its_seed(graph, model) -> None:
    again = Stable(SMALL).fit(graph.data, runs=2, seed=1)
    assert torch.equal(again.logits(), model.logits())
    other = Stable(SMALL).fit(graph.data, runs=2, seed=2)
    assert not torch.equal(other.logits(), model.logits())


def test_test_labels_are_not_read(graph, model) -> None:
    hidden = graph.data.labels.clone()
    split = graph.data.splits[0]
    hidden[split.test] = 0
    again = Stable(SMALL).fit(replace(graph.data, labels=hidden), split, runs=2, seed=1)
    assert torch.equal(again.logits(), model.logits())


def test_saved_and_loaded_it_says_the_same(graph, model, tmp_path) -> None:
    model.save(tmp_path / "m")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [
        "card.json",
        "weights.safetensors",
    ]
    loaded = StableClassifier.load(tmp_path / "m")
    assert torch.equal(loaded.logits(), model.logits())
    assert (loaded.graph != model.graph).nnz == 0
    assert loaded.config == model.config
    assert loaded.info == model.info
    with pytest.raises(CheckpointError, match="exists already"):
        model.save(tmp_path / "m")
    card = tmp_path / "m" / "card.json"
    text = json.loads(card.read_text())
    text["kind"] = "gdss"
    card.write_text(json.dumps(text))
    with pytest.raises(CheckpointError, match="'gdss'"):
        StableClassifier.load(tmp_path / "m")


def test_settings_are_chosen_on_validation(graph) -> None:
    base = replace(SMALL, symmetric=True)
    found = choose(graph.data, base=base, runs=2, seed=1)
    best = max(row["val_accuracy"] for row in found.tried)
    at = {"jaccard": found.config.jaccard, "k": found.config.k, "alpha": found.config.alpha}
    assert {**at, "val_accuracy": best} in found.tried
    assert len({tuple(row.items()) for row in found.tried}) == len(found.tried) == 6
    assert (found.config.encoder, found.config.symmetric) == (base.encoder, True)
    hidden = graph.data.labels.clone()
    hidden[graph.data.splits[0].test] = 1
    told = replace(graph.data, labels=hidden)
    assert choose(told, base=base, runs=2, seed=1).tried == found.tried


def test_published_settings() -> None:
    found = published("cora", 0.2)
    assert (found.alpha, found.k, found.jaccard, found.cosine, found.beta) == (
        0.6, 7, 0.03, 0.25, 2.0,
    )  # fmt: skip
    assert published("polblogs", 0.1).beta == 1.0
    assert published("citeseer", 0.15).jaccard == 0.04
    assert found.encoder == EncoderConfig(hidden=512, lr=1e-3, epochs=10_000, patience=20)
    with pytest.raises(ArgumentError, match="choose"):
        published("cora", 0.25)
    with pytest.raises(ArgumentError, match="choose"):
        published("pubmed", 0.05)


def test_indicators_are_no_words(graph) -> None:
    bare = NodeData.of("bare", graph.data.edges, None, graph.data.labels, graph.data.splits)
    with pytest.raises(ArgumentError, match="jaccard=0"):
        Stable(SMALL).fit(bare)
    model = Stable(replace(SMALL, jaccard=0.0)).fit(bare)
    assert model.info["dropped_by_features"] == 0
    assert choose(bare, base=SMALL, runs=1).config.jaccard == 0.0


def test_a_graph_of_ones_own(graph) -> None:
    """A scipy adjacency with loops, doubles and an isolated node; the same graph from PyG."""
    import scipy.sparse as sp
    from torch_geometric.data import Data

    data, n = graph.data, graph.data.n
    u, v = data.edges.numpy()
    alone = np.flatnonzero((u != 7) & (v != 7))
    u, v = u[alone], v[alone]
    row = np.concatenate([u, v, [3], u[:1]])
    col = np.concatenate([v, u, [3], v[:1]])
    matrix = sp.coo_matrix((np.ones(len(row)), (row, col)), shape=(n, n))
    own = graph_of("own", matrix, data.features.numpy(), data.labels.numpy(), data.splits)
    assert own.notes == {"self_loops": 1, "merged": 1, "isolated": 1}
    masks = {}
    for part in ("train", "val", "test"):
        mask = torch.zeros(n, dtype=torch.bool)
        mask[getattr(data.splits[0], part)] = True
        masks[f"{part}_mask"] = mask
    index = torch.from_numpy(np.stack([row, col]))
    pyg = Data(x=data.features, edge_index=index, y=data.labels, **masks)
    other = NodeData.from_pyg(pyg)
    first, second = (Stable(SMALL).fit(g) for g in (own, other))
    assert torch.equal(first.logits(), second.logits())
    assert 7 not in first.col.tolist()  # nobody listens to it
    assert 7 in first.row.tolist()  # it listens
    both = Stable(replace(SMALL, symmetric=True)).fit(own)
    assert 7 in both.col.tolist()  # those that it listens to listen back
    assert (both.graph != both.graph.T).nnz == 0
    assert bool(first.logits().isfinite().all())


def test_embeddings_do_not_depend_on_labels(graph) -> None:
    told = replace(graph.data, labels=graph.data.labels.roll(1), splits=())
    first, second = (represent(g, SMALL).embedding for g in (graph.data, told))
    assert torch.equal(first, second)


def test_features_are_sparse_where_that_pays() -> None:
    few = torch.eye(20)
    assert [x.layout for x in sparse_features(few)] == [torch.sparse_csr] * 2
    many = torch.ones(4, 3)
    assert [x.shape for x in sparse_features(many)] == [(4, 3), (3, 4)]
    assert sparse_features(many)[0].layout == torch.strided


def test_what_cannot_be_fitted_is_refused(graph) -> None:
    with pytest.raises(DataError, match="no split"):
        Stable(SMALL).fit(replace(graph.data, splits=()))
    split = replace(graph.data.splits[0], val=torch.zeros(0, dtype=torch.int64))
    with pytest.raises(DataError, match="validation"):
        Stable().fit(graph.data, split)
    for call in (Stable(SMALL).fit, choose):
        with pytest.raises(ArgumentError, match="runs=0"):
            call(graph.data, runs=0)
    for wrong in ({"jaccard": 1.5}, {"recover": -0.1}, {"cosine": 2.0}, {"k": -1}, {"beta": -1.0}):
        with pytest.raises(ArgumentError, match="expected jaccard"):
            StableConfig(**wrong)


def test_a_split_that_is_passed_is_checked_as_the_graphs_own(graph) -> None:
    test = graph.data.splits[0].test
    beyond = replace(graph.data.splits[0], test=torch.tensor([120]))
    unlabelled = replace(
        graph.data, labels=graph.data.labels.index_fill(0, test[:1], -1), splits=()
    )
    for call in (Stable(SMALL).fit, choose):
        with pytest.raises(DataError, match="node 120"):
            call(graph.data, beyond)
        with pytest.raises(DataError, match="no label"):
            call(unlabelled, graph.data.splits[0])


def test_the_hash_is_that_of_the_split_that_was_used(graph) -> None:
    first, second = random_splits(graph.data.labels, 2, (0.3, 0.2), seed=4)
    few = replace(SMALL, encoder=EncoderConfig(hidden=8, epochs=2), gcn=GCNConfig(epochs=2))
    both = replace(graph.data, splits=(first, second))
    hashes = [
        Stable(few).fit(data, split).info["split_sha256"]
        for data, split in ((both, None), (both, second), (graph.data, second))
    ]
    assert hashes[0] != hashes[1] == hashes[2]
    assert hashes[1] == replace(both, splits=(second,)).fingerprint()["split_sha256"]
    bare = replace(second, val=torch.zeros(0, dtype=torch.int64))
    assert Stable(few).fit(both, bare).info["val_accuracy"] is None


def test_nothing_to_compare_nodes_by_is_refused(graph) -> None:
    blank = replace(graph.data, features=torch.zeros_like(graph.data.features))
    for config in (None, SMALL, replace(SMALL, jaccard=0.0)):
        with pytest.raises(DataError, match="all features are zero"):
            Stable(config).fit(blank)
    few = replace(SMALL, encoder=EncoderConfig(hidden=8, epochs=2), cosine=1.0)
    with pytest.raises(ArgumentError, match="lower cosine"):
        Stable(few).fit(graph.data)


def test_sparse_features_and_their_transpose_are_the_features():
    generator = torch.Generator().manual_seed(0)
    few = torch.randn(20, 13, generator=generator)
    few = few * (torch.rand(20, 13, generator=generator) < 0.1)
    for x in (few, few + 1):
        seen, turned = sparse_features(x)
        assert (seen.layout == torch.sparse_csr) == (x is few)
        assert torch.equal(seen.to_dense(), x)
        assert torch.equal(turned.to_dense(), x.T)
