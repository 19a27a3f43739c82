"""A signed temporal model: trained on a stream, asked about the next one, kept without pickles.

.. code-block:: python

    split = events.split()
    train = EventStream(events, 0, split.train, teacher=True)
    valid = EventStream(events, split.train, split.valid, batch=20)
    model = SignedTemporalModel.fit(train, SembaConfig(), valid)
    found = model.predict(EventStream(events, split.valid, batch=20))
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from graphdiff.config import validate
from graphdiff.core.errors import ArgumentError, CheckpointError
from graphdiff.data.signed import SignedEvents
from graphdiff.graph.semba.config import SembaConfig
from graphdiff.graph.semba.memory import State
from graphdiff.graph.semba.metrics import MAIN, measure
from graphdiff.graph.semba.net import SembaNet
from graphdiff.graph.semba.stream import EventStream
from graphdiff.graph.semba.training import Learner, class_weights, train, typical_gap
from graphdiff.train.card import Card
from graphdiff.train.checkpoint import load_weights, read_card, save_model

__all__ = ["Predictions", "SignedTemporalModel"]

KIND = "semba"
CITATION = (
    "Sharma, K., Raghavendra, M., Lee, Y.-C., Kumar, A., Kumar, S.: Representation learning in "
    "continuous-time dynamic signed networks. CIKM 2023, arXiv 2207.03408"
)


@dataclass(frozen=True)
class Predictions:
    """What a model said about a stream, before it saw the answers.

    Attributes:
        task: The task.
        scores: Logits of a positive sign ``[q]``, of three classes ``[q, 3]``, or weights ``[q]``.
        labels: The answers ``[q]``.
        threshold: Of signs, as chosen on validation.
    """

    task: str
    scores: NDArray[np.float64]
    labels: NDArray[np.float64]
    threshold: float = 0.0

    def metrics(self) -> dict[str, float]:
        """See :func:`graphdiff.graph.semba.metrics.measure`."""
        return measure(self.task, self.scores, self.labels, self.threshold)


class SignedTemporalModel:
    """Network, memory and where in the stream it stands; made by :meth:`fit` or :meth:`load`.

    Attributes:
        config: Settings.
        net: The network.
        state: Memories after the last event that was seen.
        epochs: Validation scores of the epochs, in order.
        threshold: Of the logit of a sign.
        validation: What it said about the validation stream in the epoch that was chosen.
    """

    def __init__(
        self, config: SembaConfig, net: SembaNet, state: State, known: str, centre: float,
        spread: float,
    ) -> None:  # fmt: skip
        self.config, self.net, self.state = config, net, state
        self.epochs: list[dict[str, float]] = []
        self.threshold = 0.0
        self.validation: Predictions | None = None
        self._known, self._centre, self._spread = known, centre, spread

    # -- training ---------------------------------------------------------------------------------

    @classmethod
    def fit(
        cls,
        stream: EventStream,
        config: SembaConfig | None = None,
        valid: EventStream | None = None,
        *,
        device: str | torch.device = "cpu",
        progress: Callable[[int, dict[str, float]], None] | None = None,
    ) -> SignedTemporalModel:
        """Train on a stream; the epoch is chosen on ``valid``.

        Args:
            stream: The training events, from the first one.
            config: Settings; the task must be that of the streams.
            valid: The events that follow; None = the last epoch is taken, and its threshold is 0.
            device: Where to train.
            progress: Called after each epoch with its number and scores.

        Returns:
            A model that has seen both streams.

        Raises:
            ArgumentError: The streams are of other tasks, or do not follow each other.
            TrainingError: The loss is not finite.
        """
        config = config or SembaConfig(task=stream.task)
        _check(config, stream, valid)
        weight = stream.events.weight[: stream.stop]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            net = SembaNet(config, typical_gap(stream)).to(device)
            if config.task == "sign" and not config.balance:
                net.start_from(float((weight > 0).mean()))
            learner = Learner(net, float(weight.mean()), float(weight.std()) or 1.0)
            if config.balance:
                learner.balance = class_weights(stream).to(device)
            found = train(learner, stream, valid, progress)
        net.eval()
        known = _digest(stream.events, found.state.position)
        made = cls(config, net, found.state, known, learner.centre, learner.spread)
        made.epochs, made.threshold = found.epochs, found.threshold
        if found.said is not None:
            made.validation = Predictions(config.task, *found.said, found.threshold)
        return made

    # -- use --------------------------------------------------------------------------------------

    def predict(self, stream: EventStream) -> Predictions:
        """Predict a stream that follows on what the model has seen; it has seen it afterwards.

        With ``config.online`` the weights of the network are trained on as well, each batch after
        it was predicted; with ``config.balance``, classes weigh as in the events before the stream.

        Args:
            stream: Of the model's task; its events before ``start`` are those seen so far.

        Raises:
            ArgumentError: Another task, or another past.
        """
        _check(self.config, stream, None, fit=False)
        if stream.start != self.state.position or stream.teacher:
            raise ArgumentError(
                f"the model has seen {self.state.position} events, the stream starts at "
                f"{stream.start}{' as a teacher' if stream.teacher else ''}: predict streams in "
                "turn, without teacher"
            )
        if _digest(stream.events, stream.start) != self._known:
            raise ArgumentError(
                f"the {stream.start} events before the stream are not those that the model has "
                "seen; extend them with SignedEvents.extended"
            )
        start = float(stream.events.time[0])
        self.state = self.state.grown(stream.events.num_nodes, start, self.config.identity_seed)
        learner = Learner(self.net, self._centre, self._spread)
        if self.config.online:
            learner.optimizer = torch.optim.SGD(self.net.parameters(), self.config.online)
            if self.config.balance:
                learner.balance = class_weights(stream, stream.start).to(self.state.memory.device)
        self.state, _ = learner.run(self.state, stream)
        self._known = _digest(stream.events, self.state.position)
        return Predictions(self.config.task, stream.scores, stream.labels, self.threshold)

    def copy(self) -> SignedTemporalModel:
        """An independent copy at the same position, to predict one stream in several ways."""
        made = SignedTemporalModel(
            self.config, copy.deepcopy(self.net), self.state.clone(), self._known, self._centre,
            self._spread,
        )  # fmt: skip
        made.epochs, made.threshold = list(self.epochs), self.threshold
        made.validation = self.validation
        return made

    def with_online(self, online: float) -> SignedTemporalModel:
        """A copy that learns on, or not, while it predicts."""
        made = self.copy()
        made.config = replace(self.config, online=online)
        return made

    def save(self, directory: str | Path, *, overwrite: bool = False) -> Path:
        """Write a model folder: ``weights.safetensors`` (memory included) and ``card.json``.

        Raises:
            CheckpointError: The folder exists, or cannot be written.
        """
        names = ("source", "target", "weight", "time")
        tensors = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        tensors |= {"state.memory": self.state.memory, "state.last": self.state.last}
        tensors |= dict(zip((f"pending.{name}" for name in names), self.state.pending, strict=True))
        card = Card(
            kind=KIND,
            task={"config": asdict(self.config), "position": self.state.position,
                  "known": self._known, "threshold": self.threshold, "centre": self._centre,
                  "spread": self._spread},
            seed=self.config.seed, citation=CITATION,
            metrics=self._validated(),
        )  # fmt: skip
        save_model(directory, tensors, card, overwrite=overwrite)
        return Path(directory)

    def _validated(self) -> dict[str, dict[str, float]]:
        """Scores of the epoch that was chosen on validation, for the card; nothing without one."""
        main = MAIN[self.config.task]
        each = [epoch for epoch in self.epochs if main in epoch]
        if not each:
            return {}
        best = max(each, key=lambda epoch: epoch[main])
        return {"validation": {k: v for k, v in best.items() if k != "loss"}}

    @classmethod
    def load(cls, directory: str | Path, device: str | torch.device = "cpu") -> SignedTemporalModel:
        """Read what :meth:`save` wrote; nothing is unpickled.

        Raises:
            CheckpointError: The folder is damaged or holds another kind of model.
        """
        card, tensors = read_card(directory, kind=KIND), load_weights(directory)
        about = card.task
        try:
            config = validate(SembaConfig, about["config"], where="card.task.config")
            net = SembaNet(config).to(device)
            net.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
            pending = (tensors[f"pending.{k}"] for k in ("source", "target", "weight", "time"))
            state = State(
                tensors["state.memory"].to(device), tensors["state.last"].to(device),
                tuple(x.to(device) for x in pending), int(about["position"]),  # type: ignore[arg-type]
            )  # fmt: skip
            made = cls(config, net, state, about["known"], about["centre"], about["spread"])
            made.threshold = float(about["threshold"])
        except (KeyError, RuntimeError, TypeError) as error:
            raise CheckpointError(
                f"{directory} is not a complete signed temporal model ({error}); save it again"
            ) from error
        net.eval()
        return made


def _check(
    config: SembaConfig, stream: EventStream, valid: EventStream | None, fit: bool = True
) -> None:
    for part in (stream, valid):
        if part is not None and part.task != config.task:
            raise ArgumentError(
                f"the stream is of task {part.task!r}, the settings of {config.task!r}: make both "
                "the same"
            )
    if fit and stream.start:
        raise ArgumentError(
            f"the training stream starts at event {stream.start}: memories need all events from "
            "the first one on"
        )
    if valid is not None and (
        valid.start != stream.stop or valid.events is not stream.events or valid.teacher
    ):
        raise ArgumentError(
            f"the validation stream starts at event {valid.start}, training ends at {stream.stop}: "
            "they must be of the same events, one after the other, validation without teacher"
        )


def _digest(events: SignedEvents, position: int) -> str:
    """Of the first events."""
    sha = hashlib.sha256()
    for name in ("source", "target", "weight", "time"):
        sha.update(np.ascontiguousarray(getattr(events, name)[:position]).tobytes())
    return sha.hexdigest()
