"""Node classification: propagated labels, baselines, the latent diffusion, the published model."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from diffgraph_nodes_support import FAST, PATHS, accuracy, operators, planted

from graphdiff.core.errors import ArgumentError, CheckpointError
from graphdiff.core.rng import Key
from graphdiff.data.hetero import Split
from graphdiff.graph.diffgraph.denoiser import DenoiserConfig
from graphdiff.graph.diffgraph.metapath import MetaPath, materialise
from graphdiff.graph.diffgraph.node_baselines import (
    BASELINES,
    baseline,
    fit_linear,
    validation_score,
)
from graphdiff.graph.diffgraph.node_inputs import (
    EPSILON,
    Basis,
    diffuse,
    feature_views,
    folds_of,
    label_scores,
    landmarks,
    walk,
)
from graphdiff.graph.diffgraph.node_model import Latents, draw, make_latents, train_denoiser
from graphdiff.graph.diffgraph.node_published import PublishedModel, spread
from graphdiff.graph.diffgraph.nodes import HeteroClassifier, NodeConfig

# -- inputs ---------------------------------------------------------------------------------------


def test_diffusion_is_the_resolvent_in_the_limit():
    """f = (1 - a)(I - aP)^-1 x, and after K rounds the truncated series of the docstring."""
    graph = planted()
    paths, x = operators(graph, "symmetric"), torch.rand(graph.n, 2, generator=torch.Generator())
    mean = sum(materialise(path).toarray() for path in paths) / 2
    exact = 0.3 * np.linalg.solve(np.eye(graph.n) - 0.7 * mean, x.numpy())
    assert np.allclose(diffuse(paths, x, 0.7, 80).numpy(), exact, atol=1e-5)
    series = sum(0.3 * 0.7**k * np.linalg.matrix_power(mean, k) for k in range(3))
    series = series + 0.7**3 * np.linalg.matrix_power(mean, 3)
    assert np.allclose(diffuse(paths, x, 0.7, 3).numpy(), series @ x.numpy(), atol=1e-5)
    with pytest.raises(ArgumentError, match="one path or more"):
        diffuse([], x, 0.5, 3)


def test_label_scores_are_what_they_are_said_to_be():
    graph = planted(features=False)
    train, paths = graph.split().train, operators(graph)
    y = graph.labels[train]
    made = label_scores(paths, train, y, 3, damping=0.9, hops=6, folds=4)
    start = np.zeros((graph.n, 3))
    start[train, y] = 1 / 8
    spread_out = diffuse(paths, torch.from_numpy(start).float(), 0.9, 6).numpy()
    f = graph.n * spread_out / spread_out.sum(0)
    logs = np.log(f + EPSILON)
    assert np.allclose(made.all.numpy(), logs - logs.mean(1, keepdims=True), atol=1e-4)
    fold = folds_of(y, 4, 0)
    start[train[fold == 2]] = 0
    start /= start.sum(0)
    spread_out = diffuse(paths, torch.from_numpy(start).float(), 0.9, 6).numpy()
    logs = np.log(graph.n * spread_out / spread_out.sum(0) + EPSILON)
    held = (logs - logs.mean(1, keepdims=True))[train[fold == 2]]
    assert np.allclose(made.held[torch.from_numpy(fold == 2)].numpy(), held, atol=1e-4)


def test_a_training_node_is_not_shown_its_own_label():
    graph = planted(features=False)
    train, paths = graph.split().train, operators(graph)
    y = graph.labels[train].copy()
    fold = folds_of(y, 4, 0)
    here = np.flatnonzero(fold == 1)
    before = label_scores(paths, train, y, 3, folds=4).held[here]
    other = y.copy()
    other[here] = np.roll(y[here], 1)  # classes of the fold change hands, the folds stay the same
    assert (other != y).any()
    import graphdiff.graph.diffgraph.node_inputs as inputs

    kept, inputs.folds_of = inputs.folds_of, lambda *_: fold
    try:
        after = label_scores(paths, train, other, 3, folds=4)
    finally:
        inputs.folds_of = kept
    assert torch.equal(after.held[here], before)
    assert not torch.allclose(
        after.all[train[here]], label_scores(paths, train, y, 3).all[train[here]]
    )


def test_folds_spread_each_class():
    labels = np.repeat([0, 1, 2], [8, 12, 5])
    fold = folds_of(labels, 4, 0)
    for c, sizes in ((0, [2, 2, 2, 2]), (1, [3, 3, 3, 3]), (2, [2, 1, 1, 1])):
        assert np.bincount(fold[labels == c], minlength=4).tolist() == sizes
    with pytest.raises(ArgumentError, match="two of each"):
        folds_of(np.array([0, 0, 1]), 2, 0)
    with pytest.raises(ArgumentError, match="1 folds"):
        folds_of(labels, 1, 0)


def test_basis_is_principal_components():
    decomposition = pytest.importorskip("sklearn.decomposition")
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80, 6)) @ np.diag([3, 2, 1.5, 1, 0.5, 0.1])
    basis = Basis.of([torch.from_numpy(rows[:50]), torch.from_numpy(rows[50:])], 3)
    found = basis(torch.from_numpy(rows).float()).numpy()
    theirs = decomposition.PCA(3).fit_transform(rows)
    scale = np.sqrt((theirs**2).mean())
    assert np.allclose(np.abs(found), np.abs(theirs) / scale, atol=1e-4)
    assert (found**2).mean() == pytest.approx(1.0, abs=1e-4)


# -- baselines ------------------------------------------------------------------------------------


def test_the_linear_fit_is_that_of_sklearn():
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)), np.repeat([0, 1, 2], [20, 12, 8])
    x[:, 0] += y
    rows = torch.from_numpy(x).float()
    weight, bias = fit_linear(lambda w: rows @ w, (5, 3), torch.from_numpy(y), 0.05, 200)
    theirs = linear.LogisticRegression(C=1 / (0.05 * 40), class_weight="balanced", tol=1e-8).fit(
        x, y
    )
    assert np.allclose(weight.numpy().T, theirs.coef_, atol=2e-3)
    gap = bias.numpy() - theirs.intercept_  # biases are free up to a common constant
    assert np.ptp(gap) < 5e-3


@pytest.mark.parametrize("norm", ["walk", "symmetric"])
def test_landmarks_stand_for_the_identity(norm):
    """Regression on them is regression on the rows of P^k itself, a column for each node."""
    graph = planted(features=False)
    paths, train = operators(graph, norm), torch.from_numpy(graph.split().train)
    y = torch.from_numpy(graph.labels)[train]
    mean = sum(materialise(path).toarray() for path in paths) / 2
    dense = torch.from_numpy(np.linalg.matrix_power(mean, 3)).float()
    few = walk(paths, landmarks(paths, train, 3), 3)
    assert few.shape == (graph.n, 24)
    assert torch.allclose(few @ few[train].t(), dense @ dense[train].t(), atol=1e-4)
    answers = []
    for rows in (dense, few):
        weight, bias = fit_linear(rows[train].matmul, (rows.shape[1], 3), y, 1e-3, 300)
        answers.append((rows @ weight + bias).softmax(-1))
    assert torch.allclose(answers[0], answers[1], atol=2e-3)


def test_transposed():
    graph = planted()
    for norm in ("walk", "row", "symmetric", "count"):
        path = MetaPath.of(graph, PATHS[0], norm)
        assert np.allclose(materialise(path.transposed).toarray(), materialise(path).toarray().T)
    twice = MetaPath.of(graph, PATHS[0]).transposed.transposed
    assert np.allclose(
        materialise(twice).toarray(), materialise(MetaPath.of(graph, PATHS[0])).toarray()
    )


@pytest.mark.parametrize("name", BASELINES)
def test_baselines(name):
    graph = planted()
    made = baseline(name, graph, graph.split(), paths=PATHS)
    assert made.log_probs.shape == (graph.n, 3)
    assert torch.allclose(made.log_probs.exp().sum(1), torch.ones(graph.n), atol=1e-4)
    assert made.tried == {"majority": 1, "mlp": 10, "label propagation": 36, "sgc": 48}[name]
    if name != "majority":
        assert accuracy(made.log_probs, graph) > 0.5  # chance is a third
    # the labels of test nodes are not looked at
    blind = graph.labels.copy()
    blind[graph.split().test] = 0
    same = baseline(name, replace(graph, labels=blind), graph.split(), paths=PATHS)
    assert torch.equal(same.log_probs, made.log_probs)
    assert same.setting == made.setting


def test_baselines_refuse():
    graph = planted(features=False)
    with pytest.raises(ArgumentError, match="nothing to learn from"):
        baseline("mlp", graph, graph.split())
    with pytest.raises(ArgumentError, match="no baseline 'gcn'"):
        baseline("gcn", graph, graph.split())


def test_settings_are_ordered_by_accuracy_then_likelihood():
    labels, nodes = np.array([0, 1, 1]), np.array([0, 1])
    sure = torch.tensor([[0.9, 0.1], [0.2, 0.8], [1.0, 1e-9]]).log()
    unsure = torch.tensor([[0.6, 0.4], [0.4, 0.6], [1e-9, 1.0]]).log()
    wrong = torch.tensor([[0.1, 0.9], [0.2, 0.8], [1e-9, 1.0]]).log()
    scores = [validation_score(p, labels, nodes) for p in (sure, unsure, wrong)]
    assert sorted(scores, reverse=True) == scores
    assert scores[0] == (1.0, pytest.approx((np.log(0.9) + np.log(0.8)) / 2))


# -- latent diffusion -----------------------------------------------------------------------------


def test_latents():
    graph = planted()
    train = torch.from_numpy(graph.split().train)
    y = torch.from_numpy(graph.labels)[train]
    paths = operators(graph)
    how = {"walks": ((0.8, 4), (0.9, 6)), "dim": 5, "hops": 3, "folds": 4}
    made = make_latents(graph, paths, train, y, "both", **how)
    assert made.target.shape == (graph.n, 5 + 2 * 3)
    assert made.source.shape == (graph.n, 3 * 5 + 2 * 2 * 3)
    together, views = feature_views(graph, paths, train, 3)
    assert torch.allclose(together, (views[0] + views[1]) / 2)
    assert torch.allclose(made.target[:, :5], made.basis(together))
    assert torch.allclose(made.source[:, :15], torch.cat([made.basis(v) for v in views], 1))
    joint = [label_scores(paths, train.numpy(), y.numpy(), 3, damping=a, hops=k, folds=4)
             for a, k in how["walks"]]  # fmt: skip
    assert torch.allclose(made.target[:, 5:], made.unit * torch.cat([s.all for s in joint], 1))
    assert torch.allclose(made.held[0][:, 5:], made.unit * torch.cat([s.held for s in joint], 1))
    assert torch.equal(made.held[1][:, :15], made.source[train, :15])
    assert not torch.allclose(made.held[1][:, 15:], made.source[train, 15:])
    alone = make_latents(graph, paths[:1], train, y, "both", **how)
    assert alone.source.shape == (graph.n, 2 * 5)
    with pytest.raises(ArgumentError, match="one view only"):
        make_latents(graph, paths[:1], train, y, "scores", **how)


def test_draws_have_the_law_of_the_target_given_the_source():
    """Target = B source + noise: the mean of draws is B source, their spread that of the noise."""
    rng = np.random.default_rng(0)
    c = rng.normal(size=(600, 2))
    mean = c @ np.array([[1.0, -0.5], [0.3, 0.8]])
    z = mean + 0.4 * rng.normal(size=(600, 2))
    source, target = torch.from_numpy(c).float(), torch.from_numpy(z).float()
    latents = Latents(target, source, (target, source), None, torch.ones(()))
    config = DenoiserConfig(steps=40, hidden=64, layers=2)
    denoiser = train_denoiser(latents, config, steps=1000, batch=600, lr=1e-2, seed=0)
    with torch.no_grad():
        draws = torch.stack([denoiser.sample(source, seed=k) for k in range(12)]).numpy()
    error = draws.mean(0) - mean
    assert (error**2).mean() < 0.1 * mean.var()  # twelve draws alone make 0.02
    assert draws.std(0).mean() == pytest.approx(0.4, abs=0.15)
    assert torch.equal(draw(denoiser, source, 2), draw(denoiser, source, 2))
    some = torch.tensor([3, 11])
    apart, together = draw(denoiser, source[some], 2, ids=some), draw(denoiser, source, 2)[some]
    assert torch.allclose(apart, together, atol=1e-5)
    assert draw(None, source, 2) is None


@pytest.mark.parametrize("features", [True, False])
@pytest.mark.parametrize("mode", ["diffusion", "plain"])
def test_classifier(mode, features, tmp_path):
    graph = planted(features=features)
    made = HeteroClassifier.fit(graph, replace(FAST, mode=mode))
    assert accuracy(made.log_probs(graph), graph) > 0.6
    val = graph.split().val
    assert made.choice["val_accuracy"] == pytest.approx(
        np.mean(made.predict(graph)[val] == graph.labels[val])
    )
    assert np.allclose(made.predict_proba(graph).sum(1), 1, atol=1e-5)
    # the labels of test nodes are not looked at, in fitting or predicting
    blind = graph.labels.copy()
    blind[graph.split().test] = 0
    same = HeteroClassifier.fit(replace(graph, labels=blind), replace(FAST, mode=mode))
    assert torch.equal(same.log_probs(graph), made.log_probs(graph))
    # saved and read, in a folder without pickles
    made.save(tmp_path / "model", notes="a test")
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"card.json", "weights.safetensors"}
    again = HeteroClassifier.load(tmp_path / "model")
    assert torch.allclose(again.log_probs(graph), made.log_probs(graph), atol=1e-6)
    assert again.config == made.config


def test_seeds_and_progress():
    graph, seen = planted(), list[tuple[int, int]]()
    one = HeteroClassifier.fit(graph, FAST, seed=1, progress=lambda a, b: seen.append((a, b)))
    assert seen[-1] == (30, 30)
    assert torch.equal(
        one.log_probs(graph), HeteroClassifier.fit(graph, FAST, seed=1).log_probs(graph)
    )
    other = HeteroClassifier.fit(graph, FAST, seed=2)
    assert not torch.equal(one.log_probs(graph), other.log_probs(graph))


def test_names_of_nodes_do_not_matter():
    """Numbering the documents, words and sites differently permutes the answers."""
    graph = planted()
    rng = np.random.default_rng(3)
    order = {kind: rng.permutation(size) for kind, size in graph.sizes.items()}
    place = np.argsort(order["doc"])
    parts = [np.sort(place[part]) for _, part in graph.split().items()]
    moved = replace(
        graph,
        relations={
            key: sp.csr_array(m[order[key[0]]][:, order[key[2]]])
            for key, m in graph.relations.items()
        },
        labels=graph.labels[order["doc"]], features=sp.csr_array(graph.features[order["doc"]]),
        splits={"random": Split(*parts)},
    )  # fmt: skip
    config = replace(FAST, mode="plain", inputs=("features",))
    here = HeteroClassifier.fit(graph, config).log_probs(graph)
    there = HeteroClassifier.fit(moved, config).log_probs(moved)
    assert torch.allclose(here[torch.from_numpy(order["doc"])].exp(), there.exp(), atol=1e-3)
    here, there = (baseline("sgc", g, g.split(), paths=PATHS).log_probs for g in (graph, moved))
    assert torch.allclose(here[torch.from_numpy(order["doc"])].exp(), there.exp(), atol=1e-3)


def test_refusals(tmp_path):
    graph = planted(features=False)
    with pytest.raises(ArgumentError, match="one view only"):
        HeteroClassifier.fit(graph, replace(FAST, paths=PATHS[:1]))
    with pytest.raises(ArgumentError, match="split 'x'"):
        HeteroClassifier.fit(graph, FAST, split="x")
    with pytest.raises(ArgumentError, match="auxiliary"):
        HeteroClassifier.fit(graph, NodeConfig.published(PATHS[:1], steps=1))
    for wrong in ({"folds": 0}, {"decays": ()}, {"decays": (0.0,)}, {"steps": -1}):
        with pytest.raises(ArgumentError):
            NodeConfig(**wrong)
    made = HeteroClassifier.fit(graph, FAST)
    with pytest.raises(ArgumentError, match="other sizes"):
        made.predict(planted(n=160, features=False))
    with pytest.raises(ArgumentError, match="other features"):
        made.predict(planted())
    made.save(tmp_path / "model")
    card = tmp_path / "model" / "card.json"
    text = json.loads(card.read_text())
    text["task"]["config"]["mode"] = "plain"
    card.write_text(json.dumps(text))
    with pytest.raises(CheckpointError, match="not those of this configuration"):
        HeteroClassifier.load(tmp_path / "model")


# -- as published ---------------------------------------------------------------------------------


def test_published_encoder():
    graph = planted()
    path = MetaPath.of(graph, PATHS[0], "symmetric")
    whole, e = materialise(path).toarray(), np.random.default_rng(0).normal(size=(graph.n, 4))
    total, h = e.copy(), e
    for _ in range(3):
        h = whole @ h
        h = np.where(h > 0, h, h / 2)
        total = total + h / np.maximum(np.linalg.norm(h, axis=1, keepdims=True), 1e-12)
    assert np.allclose(spread(path, torch.from_numpy(e).float(), 3).numpy(), total, atol=1e-4)


def test_published_loss_and_chain():
    """The loss is the sum of its parts, both views learn from both, 200 calls are one."""
    graph = planted()
    paths, train = operators(graph, "symmetric"), torch.from_numpy(graph.split().train)
    x, y = torch.from_numpy(graph.features.toarray()), torch.from_numpy(graph.labels)[train]
    model = PublishedModel(paths, 12, 3, dim=8, seed=1).eval()
    key = Key(0, train, step=1)
    target, source = model.encode(x)
    assert torch.allclose(target, spread(paths[0], model.input(x), 3))
    assert torch.allclose(source, spread(paths[1], model.input(x), 3))
    made = model.denoiser.estimate(target[train], source[train], key)
    logits = model.head(target[train] + made.target)
    parts = torch.nn.functional.cross_entropy(logits, y), made.loss.mean()
    assert torch.allclose(model.loss(x, train, y, key), parts[0] + parts[1])
    for view in (target, source):
        (slope,) = torch.autograd.grad(parts[1], view, retain_graph=True)
        assert slope[train].abs().sum() > 0
    long = PublishedModel(paths, 12, 3, dim=8, steps=200, seed=1).eval()
    assert (long(x) - model(x)).abs().max() < 2e-3 * model(x).abs().max()


@pytest.mark.parametrize("features", [True, False])
def test_published_classifier(features, tmp_path):
    graph = planted(features=features)
    config = NodeConfig.published(PATHS, dim=16, steps=40, lr=1e-2)
    made = HeteroClassifier.fit(graph, config)
    assert accuracy(made.log_probs(graph), graph) > 0.5
    assert made.choice["step"] % 5 == 0
    made.save(tmp_path / "model")
    again = HeteroClassifier.load(tmp_path / "model")
    assert torch.equal(again.log_probs(graph), made.log_probs(graph))
