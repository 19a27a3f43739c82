"""Rows of the suite ``semba``: one function for each method, one call for each seed."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from typing import Any

from graphdiff.data.signed import SignedEvents, Split
from graphdiff.graph.semba.baselines import EdgeBank, boosted, logistic, prior, weight_probe
from graphdiff.graph.semba.config import SembaConfig
from graphdiff.graph.semba.hybrid import blend, blend_weight
from graphdiff.graph.semba.model import Predictions, SignedTemporalModel
from graphdiff.graph.semba.negatives import Negatives
from graphdiff.graph.semba.stream import EventStream

__all__ = ["Lab", "METHODS"]

FRESH = (1, 20, 200, 1000)
"""Events after which answers become known, at the test."""
VALID = 20


@dataclass(frozen=True)
class Lab:
    """A data set and how long is trained on it.

    Attributes:
        name: Of the data set.
        events: The events.
        split: Their parts.
        epochs: Of SEMBA.
        fresh: Batches of the test.
    """

    name: str
    events: SignedEvents
    split: Split
    epochs: int = 5
    fresh: tuple[int, ...] = FRESH

    @property
    def n(self) -> int:
        """Events of the test."""
        return self.split.end - self.split.valid

    def train(self, batch: int = 200, task: Any = "sign", teacher: bool = True) -> EventStream:
        """The training part."""
        return EventStream(
            self.events, 0, self.split.train, batch=batch, task=task, teacher=teacher
        )

    def valid(self, batch: int = VALID, task: Any = "sign") -> EventStream:
        """The validation part."""
        split = self.split
        return EventStream(self.events, split.train, split.valid, batch=batch, task=task)

    def test(self, batch: int, task: Any = "sign", kind: Any = "random") -> EventStream:
        """The test part."""
        negatives = Negatives(kind, train=self.split.train)
        return EventStream(
            self.events, self.split.valid, batch=batch, task=task, negatives=negatives
        )

    def fit(self, seed: int, train: EventStream, valid: EventStream, **settings: Any) -> Any:
        """A trained model, with the CPU seconds of its training."""
        began = time.process_time()
        usual = {"task": train.task, "epochs": self.epochs, "lr": 2e-3, "patience": self.epochs}
        model = SignedTemporalModel.fit(
            train, SembaConfig(**{**usual, **settings, "seed": seed}), valid
        )
        return model, time.process_time() - began


def _flat(found: dict[int, Predictions]) -> dict[str, float]:
    """Scores at the freshest batch, and the area under the curve at all of them."""
    shown = found[min(found)].metrics()
    return {**shown, **{f"auc at {batch}": p.metrics()["auc"] for batch, p in found.items()}}


def constant(lab: Lab, seed: int) -> dict[str, float]:
    """The same answer for all."""
    return _flat({b: prior(lab.train(), lab.test(b)) for b in lab.fresh[-1:]})


def probe(lab: Lab, seed: int) -> dict[str, float]:
    """``-|w|`` where the weights of a batch are known before it is scored, and here."""
    test = lab.test(200)
    return {"auc": weight_probe(test, leaky=True), "strict auc": weight_probe(test, leaky=False)}


def regression(lab: Lab, seed: int) -> dict[str, float]:
    """Logistic regression on causal history."""
    model = logistic(lab.train()).chosen(lab.valid(1))
    return _flat({b: model.predict(lab.test(b)) for b in lab.fresh})


def trees(lab: Lab, seed: int) -> dict[str, float]:
    """Boosted trees on causal history."""
    began = time.process_time()
    model = boosted(lab.train(), seed)
    spent = time.process_time() - began
    model = model.chosen(lab.valid(1))
    found = {b: model.predict(lab.test(b)) for b in lab.fresh}
    return {**_flat(found), "train_s": spent}


def late_trees(lab: Lab, seed: int) -> dict[str, float]:
    """Boosted trees where answers come after 1,000 events, in training too."""
    model = boosted(lab.train(1000, teacher=False), seed).chosen(lab.valid(1000))
    return _flat({1000: model.predict(lab.test(1000))})


def semba(lab: Lab, seed: int) -> dict[str, float]:
    """Memories and attention alone."""
    return _model(lab, seed, history=False)[0]


def semba_history(lab: Lab, seed: int) -> dict[str, float]:
    """Memories, attention and causal history; and blended with boosted trees."""
    row, model, found = _model(lab, seed, history=True)
    forest = boosted(lab.train(), seed)
    weight, threshold = blend_weight(forest.predict(lab.valid()), model.validation)
    first = min(lab.fresh)
    both = blend(forest.predict(lab.test(first)), found[first], weight, threshold)
    row |= {f"blend {k}": v for k, v in both.metrics().items()} | {"blend weight": weight}
    for rate in (0.01, 0.1):  # learning on at the test, batch by batch, after predicting
        learnt = model.with_online(rate).predict(lab.test(VALID))
        row[f"auc at {VALID}, online {rate:g}"] = learnt.metrics()["auc"]
    return row


def _model(lab: Lab, seed: int, history: bool) -> tuple[dict[str, float], Any, Any]:
    train = lab.train()
    model, spent = lab.fit(seed, train, lab.valid(), history=history)
    found, speed = {}, {}
    for batch in lab.fresh:
        test, began = lab.test(batch), time.process_time()
        found[batch] = model.copy().predict(test)
        speed[batch] = len(found[batch].labels) / (time.process_time() - began)
    row = _flat(found)
    row |= {f"events/s at {batch}": value for batch, value in speed.items()}
    row["train_s"] = spent
    # An epoch is a training pass and a validation pass.
    row["train events/s"] = len(model.epochs) * lab.split.valid / spent
    row["state_mb"] = sum(x.nbytes for x in (model.state.memory, model.state.last)) / 2**20
    row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return row, model, found


def late_semba(lab: Lab, seed: int) -> dict[str, float]:
    """SEMBA with history where answers come after 1,000 events, in training too."""
    train, valid = lab.train(1000, teacher=False), lab.valid(1000)
    model, _ = lab.fit(seed, train, valid, history=True, lr=5e-3, epochs=2 * lab.epochs)
    return _flat({1000: model.predict(lab.test(1000))})


METHODS = {
    "constant": constant, "-|w|, leaky": probe, "logistic": regression, "boosted trees": trees,
    "semba": semba, "semba + history": semba_history, "trees, 1,000 late": late_trees,
    "semba + history, 1,000 late": late_semba,
}  # fmt: skip


def link_row(lab: Lab, seed: int, method: str) -> dict[str, float]:
    """Positive, negative or no event, with negatives of three kinds at the test."""
    train = lab.train(task="signlink")
    if method == "semba + history":
        valid = lab.valid(200, "signlink")
        model: Any = lab.fit(seed, train, valid, epochs=max(lab.epochs - 2, 1))[0]
    elif method == "boosted trees":
        model = boosted(train, seed)
    else:
        model = EdgeBank(undirected=True)
    row = {}
    for kind in ("random", "historical", "inductive"):
        fresh = model.copy() if hasattr(model, "copy") else model
        found = fresh.predict(lab.test(200, "signlink", kind)).metrics()
        row |= {f"{kind} {k}": found[k] for k in ("f1_macro", "f1_weighted", "link_auc")}
    return row


def weight_row(lab: Lab, seed: int, method: str) -> dict[str, float]:
    """The signed weight itself."""
    train, test = lab.train(task="weight"), lab.test(20, "weight")
    if method == "semba + history":
        epochs = max(lab.epochs - 2, 1)
        model: Any = lab.fit(seed, train, lab.valid(20, "weight"), epochs=epochs)[0]
        return model.predict(test).metrics()
    if method == "constant":
        return prior(train, test).metrics()
    return (
        (boosted(train, seed) if method == "boosted trees" else logistic(train))
        .predict(test)
        .metrics()
    )
