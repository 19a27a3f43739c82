"""Training on nodes: what is selected, when it stops, and that test nodes are never looked at."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphdiff.core.errors import ConfigError, DataError, TrainingError
from graphdiff.data.nodes import Split
from graphdiff.graph.evaluate.training import FitConfig, fit_nodes


def problem(n: int = 60):
    made = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 3
    x = nn.functional.one_hot(y).float() + 0.8 * torch.randn(n, 3, generator=made)
    order = torch.randperm(n, generator=made)
    return x, y, Split(order[:30], order[30:45], order[45:])


def fit(x, y, split, **settings):
    torch.manual_seed(0)
    net = nn.Linear(x.shape[1], 3)
    more = {k: settings.pop(k) for k in ("stop", "progress", "groups") if k in settings}
    config = FitConfig(**{"epochs": 40, "patience": 10, "lr": 0.05, **settings})
    return net, fit_nodes(net, lambda: net(x), y, split, config, **more)


def test_the_kept_weights_are_those_of_the_best_epoch():
    x, y, split = problem()
    net, found = fit(x, y, split, select="loss")
    with torch.no_grad():
        assert torch.equal(net(x), found.logits)
        loss = nn.functional.cross_entropy(net(x)[split.val], y[split.val])
    assert max(found.curve) == pytest.approx(-float(loss), abs=1e-6)
    assert found.curve.index(max(found.curve)) == found.epoch - 1


def test_patience_counts_from_the_best_epoch():
    x, y, split = problem()
    _, found = fit(x, y, split, epochs=500, patience=7, select="loss")
    assert found.epochs == min(500, found.epoch + 7)
    assert len(found.curve) == found.epochs


def test_labels_of_test_nodes_change_nothing():
    x, y, split = problem()
    other = y.clone()
    other[split.test] = (other[split.test] + 1) % 3
    first, second = fit(x, y, split)[1], fit(x, other, split)[1]
    assert torch.equal(first.logits, second.logits)
    assert first.scores["val"] == second.scores["val"]
    assert first.scores["test"] != second.scores["test"]


def test_labels_of_validation_nodes_choose_the_epoch():
    x, y, split = problem()
    other = y.clone()
    other[split.val] = (other[split.val] + 1) % 3
    assert fit(x, other, split, select="loss")[1].epoch < fit(x, y, split, select="loss")[1].epoch


def test_ties_of_accuracy_go_to_the_smaller_loss():
    x, y, split = problem()
    torch.manual_seed(0)
    net, losses = nn.Linear(3, 3), []

    def watch(*_) -> None:
        with torch.no_grad():
            losses.append(float(nn.functional.cross_entropy(net(x)[split.val], y[split.val])))

    config = FitConfig(epochs=60, patience=60, lr=0.05)
    found = fit_nodes(net, lambda: net(x), y, split, config, progress=watch)
    tied = [k for k, score in enumerate(found.curve) if score == max(found.curve)]
    assert len(tied) > 1
    assert found.epoch - 1 == min(tied, key=losses.__getitem__)
    assert found.epoch - 1 != max(tied, key=losses.__getitem__)


def test_of_equal_epochs_the_first_is_kept():
    _, y, split = problem()
    net = nn.Linear(1, 3)
    config = FitConfig(epochs=50, patience=5)
    found = fit_nodes(net, lambda: 0 * net(torch.ones(60, 1)), y, split, config)
    assert (found.epoch, found.epochs) == (1, 6)


def test_stop_keeps_the_best_so_far():
    x, y, split = problem()
    seen = []
    _, found = fit(x, y, split, stop=lambda: len(seen) >= 3, progress=lambda *a: seen.append(a))
    assert found.epochs == 3
    assert seen == [(1, 40), (2, 40), (3, 40)]


def test_maps_have_their_own_decay():
    """Parameters that the loss does not feel move by their decay alone."""
    x, y, split = problem()

    def after(**decays) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(0)
        maps, rest = nn.Linear(3, 3), nn.Linear(3, 3)
        start = maps.weight.detach().clone()
        both = nn.ModuleList([maps, rest])
        config = FitConfig(epochs=40, patience=40, lr=0.05, select="loss", **decays)
        groups = {"maps": list(maps.parameters())}
        found = fit_nodes(both, lambda: rest(x) + 0 * maps(x), y, split, config, groups=groups)
        assert found.epoch > 15
        return start, maps.weight.detach()

    start, kept = after(weight_decay=0.01, map_decay=0.0)
    assert torch.equal(start, kept)
    start, shrunk = after(weight_decay=0.0, map_decay=1.0)
    assert shrunk.abs().max() < 0.3 * start.abs().max()
    start, same = after(weight_decay=1.0)
    assert same.abs().max() < 0.5 * start.abs().max()


def test_a_class_that_validation_lacks_is_told_before_the_first_epoch():
    x, y, split = problem()
    val = split.val[y[split.val] != 2]
    lacking, seen = Split(split.train, val, split.test), []
    with pytest.raises(DataError, match="validation part of a split has no node of class 2"):
        fit(x, y, lacking, select="roc_auc", progress=lambda *a: seen.append(a))
    assert not seen
    fit(x, y, Split(split.train, split.val, val[:0]), select="roc_auc", epochs=2)


def test_a_loss_that_is_not_finite_is_an_error():
    x, y, split = problem()
    with pytest.raises(TrainingError, match=r"lower fit\.lr"):
        fit(x * float("inf"), y, split)


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"patience": 0}, {"lr": 0.0}, {"weight_decay": -1.0}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        FitConfig(**wrong)
