r"""Predict, then update: batches of a stream that keep their answers until they were predicted.

A batch ``b`` of a stream first shows its queries, :math:`(u_i, v_i, t_i)`, and what the events
before the batch say about them. Its signs and weights, which a model needs to update its memory,
are returned by :meth:`Batch.reveal` in exchange for the scores, which the stream keeps as they are:

.. code-block:: python

    for batch in stream:
        scores = model(batch.queries, memory)
        seen = batch.reveal(scores)  # asked for earlier, the events raise PredictFirst
        memory.update(seen)

A batch never ends inside of an instant, so no event is predicted from another one of its own time;
``batch=1`` is one instant after the other. Published protocols of signed and of unsigned temporal
networks let the model see the events of a batch, weights included, before it scores them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.data.signed import SignedEvents
from graphdiff.graph.semba.history import History, strict_past
from graphdiff.graph.semba.negatives import Negatives

__all__ = ["NONE", "TASKS", "Batch", "EventStream", "PredictFirst", "Queries", "Recent", "Revealed"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Task = Literal["sign", "signlink", "weight"]
TASKS: dict[str, int] = {"sign": 1, "signlink": 3, "weight": 1}
"""Tasks, and how many scores each query has."""
NONE = 2
"""Class of a pair without an event in ``signlink``; 0 is negative, 1 positive."""


class PredictFirst(ArgumentError):
    """What a batch holds was asked for before the batch was predicted."""


@dataclass(frozen=True)
class Recent:
    """The last ``k`` visible events at each of ``r`` nodes, padded; each array is ``[r, k]``.

    Attributes:
        other: The node at the other end.
        weight: Signed weights.
        time: When.
        received: Whether the node received (or gave) it.
        there: Whether there is such an event; the other arrays are 0 where not.
    """

    other: Ints
    weight: Floats
    time: Floats
    received: NDArray[np.bool_]
    there: NDArray[np.bool_]


@dataclass(frozen=True)
class Queries:
    """What is asked, without the answers.

    Attributes:
        source: Numbers of nodes ``[q]``.
        target: As ``source``.
        time: Times ``[q]``.
        history: What visible events say, ``[q, len(FEATURES)]``, see
            :mod:`graphdiff.graph.semba.history`.
        visible: How many events of the stream each query may see, ``[q]``.
    """

    source: Ints
    target: Ints
    time: Floats
    history: NDArray[np.float32]
    visible: Ints
    _known: History = field(repr=False)

    def __len__(self) -> int:
        return len(self.source)

    def part(self, begin: int, end: int) -> Queries:
        """The queries ``[begin, end)``."""
        k = slice(begin, end)
        return Queries(
            self.source[k], self.target[k], self.time[k], self.history[k], self.visible[k],
            self._known,
        )  # fmt: skip

    def recent(self, k: int) -> Recent:
        """The last ``k`` visible events at the sources, then at the targets: ``[2 q, k]``."""
        nodes = np.concatenate([self.source, self.target])
        return Recent(*self._known.recent(nodes, np.tile(self.visible, 2), k))


@dataclass(frozen=True)
class Revealed:
    """The answers of a batch.

    Attributes:
        labels: Answer of each query ``[q]``: 1 or 0 for the sign, 0, 1 or 2 (:data:`NONE`) in
            ``signlink``, the weight in ``weight``.
        source: The events themselves, without negatives and in the order of time, ``[m]``.
        target: As ``source``.
        weight: Signed weights ``[m]``.
        time: Times ``[m]``.
    """

    labels: Floats
    source: Ints
    target: Ints
    weight: Floats
    time: Floats

    def __len__(self) -> int:
        return len(self.source)


class Batch:
    """A batch of a stream; its answers are behind :meth:`reveal`.

    Attributes:
        queries: What is asked.
        number: Which batch it is.
    """

    def __init__(self, queries: Queries, number: int, answers: Revealed, width: int) -> None:
        self.queries, self.number = queries, number
        self._answers, self._width = answers, width
        self.scores: Floats | None = None

    def reveal(self, scores: Any) -> Revealed:
        """The answers, in exchange for the predictions, which are final.

        Args:
            scores: Tensor or array ``[q]``, in ``signlink`` ``[q, 3]``; a copy is kept.

        Raises:
            ArgumentError: Scores of a wrong shape or not finite, or handed in a second time.
        """
        if self.scores is not None:
            raise ArgumentError(f"batch {self.number} was predicted already: scores are final")
        values = scores.detach().cpu().numpy() if hasattr(scores, "detach") else scores
        found = np.array(values, np.float64)
        shape = (len(self.queries),) if self._width == 1 else (len(self.queries), self._width)
        if found.shape != shape or not np.isfinite(found).all():
            raise ArgumentError(
                f"scores of batch {self.number}: expected finite numbers of shape {shape}, found "
                f"shape {found.shape} with {int((~np.isfinite(found)).sum())} that are not finite"
            )
        self.scores = found
        return self._answers

    def _revealed(self) -> Revealed:
        if self.scores is None:
            raise PredictFirst(
                f"the events of batch {self.number} were asked for before its predictions were "
                "handed in; call reveal(scores) first"
            )
        return self._answers

    @property
    def events(self) -> Revealed:
        """The answers again.

        Raises:
            PredictFirst: The batch was not predicted yet.
        """
        return self._revealed()

    @property
    def labels(self) -> Floats:
        """Answer of each query; raises as :attr:`events`."""
        return self._revealed().labels


class EventStream:
    """A part of a list of events, served batch by batch; see the module docstring.

    Args:
        events: All events; those before ``start`` are known from the beginning.
        start: First event that is asked for.
        stop: End of what is asked for; None = all.
        batch: Events of a batch, at least; it ends with an instant.
        task: ``sign`` (of an event that is known to be), ``signlink`` (positive, negative or no
            event; one negative pair beside each event) or ``weight``.
        negatives: How pairs without an event are drawn for ``signlink``; random ones by default.
        teacher: For training: each query sees all events strictly before it, those of its own
            batch included, as it would in batches of one instant.
        seed: Of negatives and of the order of the queries of ``signlink``.

    Raises:
        ArgumentError: A range, task or size out of bounds, or ``start`` or ``stop`` inside of an
            instant.
    """

    def __init__(
        self,
        events: SignedEvents,
        start: int = 0,
        stop: int | None = None,
        *,
        batch: int = 200,
        task: Task = "sign",
        negatives: Negatives | None = None,
        teacher: bool = False,
        seed: int = 0,
    ) -> None:
        stop = len(events) if stop is None else stop
        if task not in TASKS:
            raise ArgumentError(f"there is no task {task!r}: known are {', '.join(TASKS)}")
        if not 0 <= start < stop <= len(events) or batch < 1:
            raise ArgumentError(
                f"events {start} to {stop} of {len(events)} in batches of {batch}: expected "
                "0 <= start < stop <= the number of events, and batches of 1 or more"
            )
        for place, does in ((start, "starts"), (stop, "ends")):
            if 0 < place < len(events) and events.time[place - 1] == events.time[place]:
                raise ArgumentError(
                    f"event {place} is of the same instant as the one before "
                    f"({events.time[place]:.15g}): a stream {does} with an instant; "
                    "SignedEvents.split() finds such places"
                )
        self.events, self.start, self.stop = events, start, stop
        self.task, self.batch, self.teacher, self.seed = task, batch, teacher, seed
        self.negatives = negatives or Negatives()
        self._history, self._past = History(events), strict_past(events.time)
        self._ends = self._cut()
        self._done: list[Batch] = []

    def _cut(self) -> list[int]:
        """Ends of the batches."""
        ends, here = [], self.start
        while here < self.stop:
            last = min(here + self.batch, self.stop) - 1
            here = int(np.searchsorted(self.events.time, self.events.time[last], side="right"))
            ends.append(here)
        return ends

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[Batch]:
        self._done = []
        begins = [self.start, *self._ends[:-1]]
        pieces = self.plain() if self.task != "signlink" else None
        for number, (begin, end) in enumerate(zip(begins, self._ends, strict=True)):
            if self._done and self._done[-1].scores is None:
                raise PredictFirst(
                    f"batch {number} was asked for before batch {number - 1} was predicted; call "
                    "reveal(scores) for each batch in turn"
                )
            made = self._piece(pieces, begin, end) if pieces else self._drawn(number, begin, end)
            batch = Batch(made[0], number, made[1], TASKS[self.task])
            self._done.append(batch)
            yield batch

    def _visible(self, begin: int, end: int) -> Ints:
        return self._past[begin:end] if self.teacher else np.full(end - begin, begin)

    def plain(self) -> Queries:
        """The queries of all batches where they are the events, each with what it may see.

        For models that judge each row for itself and do not learn from one to the next: the history
        of a row tells events of earlier batches, which may not have been predicted yet.
        """
        part, begins = slice(self.start, self.stop), [self.start, *self._ends[:-1]]
        spans = zip(begins, self._ends, strict=True)
        visible = np.concatenate([self._visible(*span) for span in spans])
        u, v, t = (getattr(self.events, k)[part] for k in ("source", "target", "time"))
        return Queries(u, v, t, self._history.features(u, v, t, visible), visible, self._history)

    def _piece(self, all_of_them: Queries, begin: int, end: int) -> tuple[Queries, Revealed]:
        queries = all_of_them.part(begin - self.start, end - self.start)
        weight = self.events.weight[begin:end]
        labels = weight if self.task == "weight" else (weight > 0).astype(np.float64)
        return queries, self._answers(begin, end, labels)

    def _drawn(self, number: int, begin: int, end: int) -> tuple[Queries, Revealed]:
        """Events and as many pairs without one, in an order that does not tell which is which."""
        rng = np.random.default_rng([self.seed, begin])
        u, v = self.negatives.draw(self.events, begin, end, rng)
        order = rng.permutation(2 * (end - begin))
        source = np.concatenate([self.events.source[begin:end], u])[order]
        target = np.concatenate([self.events.target[begin:end], v])[order]
        time = np.tile(self.events.time[begin:end], 2)[order]
        visible = np.tile(self._visible(begin, end), 2)[order]
        history = self._history.features(source, target, time, visible)
        sign = (self.events.weight[begin:end] > 0).astype(np.float64)
        labels = np.concatenate([sign, np.full(end - begin, float(NONE))])[order]
        queries = Queries(source, target, time, history, visible, self._history)
        return queries, self._answers(begin, end, labels)

    def _answers(self, begin: int, end: int, labels: Floats) -> Revealed:
        columns = ("source", "target", "weight", "time")
        return Revealed(labels, *(getattr(self.events, k)[begin:end] for k in columns))

    @property
    def batches(self) -> list[Batch]:
        """Those served so far in this pass."""
        return self._done

    def _finished(self) -> list[Batch]:
        if len(self._done) < len(self) or self._done[-1].scores is None:
            done = sum(batch.scores is not None for batch in self._done)
            raise PredictFirst(f"{done} of {len(self)} batches were predicted; predict all of them")
        return self._done

    @property
    def scores(self) -> Floats:
        """The scores as handed in, ``[q]`` or ``[q, 3]``, once all batches were predicted."""
        return np.concatenate([batch.scores for batch in self._finished()])

    @property
    def labels(self) -> Floats:
        """All answers ``[q]``, once all batches were predicted."""
        return np.concatenate([batch.labels for batch in self._finished()])
