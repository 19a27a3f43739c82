r"""Trained models in three lines: load, sample, look at the card.

A sample is a function of ``(model, seed, sample id)``. Ids are consecutive, ``start … start+n-1``;
the size of sample ``k`` is drawn from ``(seed, k)``, samples of like size share a batch and every
batch draws the noise of its own ids. So neither the batch size nor the way in which ids are split
over processes changes what a sample is (up to the rounding of the network, whose last bits move
with the shape of a batch).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from graphdiff import __version__
from graphdiff.core.checks import moving_to
from graphdiff.core.errors import CheckpointError
from graphdiff.core.state import bucket_by_size
from graphdiff.request import check_request, pick
from graphdiff.shipped import citation, find, models
from graphdiff.task import Chain, Samples, Task, task_class
from graphdiff.train.memory import refuse_if_too_large

if TYPE_CHECKING:
    from graphdiff.core.denoiser import Denoiser
    from graphdiff.core.state import State
    from graphdiff.core.step import Step
    from graphdiff.finetune.constraint import Constraint
    from graphdiff.finetune.reward import Reward
    from graphdiff.guide import Guide
    from graphdiff.train.checkpoint import Card

__all__ = ["Batch", "Model", "Progress", "citation", "find", "load", "models"]

BATCH = 512

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)`` in units of samples times network calls: good for an ETA."""


def load(name_or_path: str | Path, which: str = "best") -> Model:
    """Load a model for sampling.

    Args:
        name_or_path: Name of a shipped model (see :func:`models`), a model folder (it holds
            ``card.json``), or the folder of a training (its newest checkpoint).
        which: ``"ema"`` for the averaged weights, ``"weights"`` for those of the last step,
            ``"best"`` for the averaged ones where there are any.

    Raises:
        CheckpointError: There is no such model, its files are damaged, or its weights do not fit.
        ConfigError: Its kind of task is not installed, or its card holds a wrong config.
    """
    from graphdiff.train.checkpoint import load_weights, read_card

    path = find(name_or_path)
    card = read_card(path)
    task = task_class(card.kind).from_config(card.task, where=f"{path / 'card.json'}: task")
    denoiser = task.build()
    weights = load_weights(path, which=which)
    try:
        denoiser.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: the weights do not fit the network of the card: {_line(error)}; "
            "the folder mixes files of two models, so copy or convert the model again"
        ) from error
    denoiser.eval().requires_grad_(False)
    return Model(path.name, task, denoiser, card, path=path, which=which)


@dataclass(frozen=True)
class Batch:
    """Finished states of one size bucket.

    Attributes:
        position: Places of these samples in the request, int64 ``[b]``.
        state: Finished states; ``state.ids`` are the sample ids.
        network_calls: Network calls this batch took (each evaluates all components at once).
        seconds: Wall-clock time of this batch.
    """

    position: torch.Tensor
    state: State
    network_calls: int
    seconds: float


class Model:
    """A task with trained weights. Made by :func:`load`; holds no random state.

    Attributes:
        name: Name of the folder it was loaded from.
        task: What the model was trained to do.
        denoiser: The network, answering in clean data.
        card: What is known about it: config, data set, metrics, licence, citation.
    """

    def __init__(
        self,
        name: str,
        task: Task,
        denoiser: Denoiser,
        card: Card,
        *,
        path: Path | None = None,
        which: str = "best",
    ) -> None:
        self.name = name
        self.task = task
        self.denoiser = denoiser
        self.card = card
        self.path = path
        self.which = which

    def __repr__(self) -> str:
        size = sum(p.numel() for p in self.denoiser.parameters())
        return f"Model({self.name!r}, {self.task.title}, {size:,} parameters, {self.device})"

    @property
    def device(self) -> torch.device:
        """Where the weights are, hence where it samples."""
        for tensor in (*self.denoiser.parameters(), *self.denoiser.buffers()):
            return tensor.device
        return torch.device("cpu")

    @property
    def dataset(self) -> str | None:
        """Name of the data set it was trained on, if the card says it."""
        for place in (self.card.data, self.card.task.get("data")):
            if isinstance(place, Mapping) and place.get("name"):
                return str(place["name"])
        return None

    def to(self, device: str | torch.device) -> Model:
        """Move the weights to ``device``; returns the model itself.

        Raises:
            ArgumentError: This machine has no such device.
        """
        with moving_to(device):
            self.denoiser.to(device)
        return self

    def citation(self) -> str:
        """BibTeX of graphdiff and of the methods and data the model is built on."""
        parts = [citation(), self.task.citation, self.card.citation]
        return "\n\n".join(dict.fromkeys(part.strip() for part in parts if part.strip()))

    # --- sampling -------------------------------------------------------------------------------

    def sample(
        self, n: int, *, seed: int = 0, start: int = 0, as_: str | None = None, **options: Any
    ) -> list[Any]:
        """Draw ``n`` samples, in the order of their ids.

        Args:
            n: How many; 0 gives an empty list.
            seed: Which stream of noise; another seed gives other samples.
            start: Id of the first sample: ``sample(4, start=8)`` are the last four of
                ``sample(12)``.
            as_: Another type than the task's own (``"pyg"``, ``"networkx"``, ``"state"``, …).
            **options: ``batch_size``, ``steps``, ``progress``, ``cond``, ``guide`` and overrides as
                for :meth:`sample_states`.

        Returns:
            RDKit molecules, networkx graphs, arrays: whatever the task makes.

        Raises:
            ArgumentError: ``n``, ``seed``, ``start`` or an option is out of range.
            ConfigError: A sampler override is unknown.
        """
        samples = self.samples(n, seed=seed, start=start, **options)
        return list(samples.items if as_ is None else self.task.convert(samples, as_))

    def samples(self, n: int, *, seed: int = 0, start: int = 0, **options: Any) -> Samples:
        """As :meth:`sample`, with the uncorrected samples and the provenance beside the items.

        ``info`` holds model, seed, ids, sampler, network calls, samples and seconds.
        """
        parts, order = [], []
        for batch in self.sample_states(n, seed=seed, start=start, **options):
            parts.append(self._decode(batch, seed))
            order += batch.position.tolist()
        return self.join(parts, order)

    def sample_stream(
        self, n: int, *, seed: int = 0, start: int = 0, **options: Any
    ) -> Iterator[Samples]:
        """Yield samples bucket by bucket as they finish (so not in the order of their ids)."""
        for batch in self.sample_states(n, seed=seed, start=start, **options):
            yield self._decode(batch, seed)

    def sample_states(
        self,
        n: int,
        *,
        seed: int = 0,
        start: int = 0,
        skip: Sequence[int] = (),
        batch_size: int = BATCH,
        progress: Progress | None = None,
        cond: Mapping[str, Any] | None = None,
        guide: Guide | None = None,
        **overrides: Any,
    ) -> Iterator[Batch]:
        """Yield finished states, one size bucket after the other.

        Args:
            n: How many samples.
            seed: Seed of sizes and noise, ``0 <= seed < 2**63``.
            start: Id of the first sample.
            skip: Ids that are already there (a run that continues) and are not made again.
            batch_size: Most samples in one batch; less memory and a shorter wait for the first.
            progress: Called after each network call, see :data:`Progress`.
            cond: Condition of the task (a class label, say): one value for all samples, or a
                sequence or tensor of one value per sample.
            guide: Guidance by a reward, see :mod:`graphdiff.guide`; it multiplies the network
                calls, and the memory of a batch, by its particles.
            **overrides: Of the sampler: ``steps``, ``solver`` and what else the task knows.
        """
        n, start, seed, batch_size = check_request(n, start, seed, batch_size)
        sampler = self.sampler(**overrides)
        if guide is not None:
            sampler = guide.chain(sampler)
        largest = min(n, batch_size)
        rows = largest * (guide.rows if guide is not None else 1)
        refuse_if_too_large(
            self.task.memory(rows, training=False),
            self.device,
            f"sampling in batches of {largest}" + (f" ({rows} particles)" * (rows > largest)),
            "lower batch_size (--batch-size), which changes no sample",
        )
        ids = torch.arange(start, start + n)
        if len(skip):
            ids = ids[~torch.isin(ids, torch.as_tensor(skip, dtype=torch.int64))]
        return self._run(sampler, ids, seed, start, n, batch_size, progress, dict(cond or {}))

    def sampler(self, **overrides: Any) -> Chain:
        """The sampler of the card with ``overrides`` applied; ``None`` leaves a setting alone."""
        return self.task.sampler(**{k: v for k, v in overrides.items() if v is not None})

    def reward(self, *specs: str, workers: int = 0) -> Reward:
        """A reward of this model's samples.

        Args:
            *specs: Terms ``[WEIGHT*]NAME[:LOW..HIGH]``; a name is one of ``task.scores()``, your
                own function of one item as ``FILE.py:FUNCTION``, or what ``task.reward_makers()``
                knows (``oracle:NAME@TARGET`` for sequences). A window ``LOW..HIGH`` rewards
                values inside it.
            workers: Processes that score, for slow functions.

        Raises:
            ArgumentError: A term is malformed or unknown.
        """
        from graphdiff.finetune.specs import parse_rewards

        def items(state: State) -> Sequence[Any]:
            return self.task.decode(state)[0]

        task = self.task
        return parse_rewards(
            specs,
            task.scores(),
            items,
            key=task.item_key,
            workers=workers,
            makers=task.reward_makers(),
        )

    def constraint(self, spec: str, workers: int = 0) -> Constraint:
        """A bound on the mean of a score over samples, for a tuner.

        Args:
            spec: ``NAME>=BOUND`` or ``NAME<=BOUND``, with names as in :meth:`reward`;
                ``NAME:LOW..HIGH>=SHARE`` bounds the share of samples inside a window.
            workers: Processes that score, for slow functions.

        Raises:
            ArgumentError: It is malformed or unknown.
        """
        from graphdiff.finetune.constraint import parse_constraint

        return parse_constraint(spec, lambda name: self.reward(name, workers=workers))

    def decode(self, state: State, info: Mapping[str, Any], *, seed: int) -> Samples:
        """Finished states as samples; ``info`` is what their batch took."""
        items, raw = self.task.decode(state)
        return Samples(state.ids.tolist(), items, raw, {**info, "seed": seed})

    def join(self, parts: Sequence[Samples], order: Sequence[int] | None = None) -> Samples:
        """Put the parts of one request together in the order of their ids.

        Args:
            parts: From :meth:`sample_stream`.
            order: Place of each sample of the concatenated parts; by id if absent.
        """
        ids = [int(i) for part in parts for i in part.ids]
        rank = ids if order is None else list(order)
        back = sorted(range(len(ids)), key=rank.__getitem__)
        items = [item for part in parts for item in part.items]
        info = self._info([part.info for part in parts], len(ids))
        raw = self.task.join([part.raw for part in parts], back)
        return Samples([ids[i] for i in back], [items[i] for i in back], raw, info)

    # --- details --------------------------------------------------------------------------------

    def _run(
        self,
        sampler: Chain,
        ids: torch.Tensor,
        seed: int,
        start: int,
        n: int,
        batch_size: int,
        progress: Progress | None,
        cond: Mapping[str, Any],
    ) -> Iterator[Batch]:
        """The batches of :meth:`sample_states`, made one by one as they are asked for."""
        if not len(ids):
            return
        calls = sampler.network_calls
        here = {k: pick(k, v, ids - start, n) for k, v in cond.items()}
        sizes = self.task.sizes(ids, seed, **here)
        done, total = 0, calls * len(ids)
        for bucket in bucket_by_size(sizes, batch=batch_size):
            index = torch.as_tensor(bucket.index, dtype=torch.int64)
            began, weight, base, made = time.perf_counter(), len(index), done, [0]

            def report(
                step: Step, base: int = base, weight: int = weight, made: list[int] = made
            ) -> None:
                made[0] = step.calls
                if progress is not None:
                    progress(base + weight * min(step.calls, calls), total)

            place = ids[index] - start
            here = {k: pick(k, v, place, n) for k, v in cond.items()}
            here = self.task.settled(ids[index], sizes[index], seed, **here)
            template = self.task.template(ids[index], sizes[index], pad=bucket.size, **here)
            template = template.to(self.device)
            state = sampler(self.denoiser, template, seed=seed, on_step=report)
            done += weight * calls
            if progress is not None:
                progress(done, total)
            yield Batch(place, state, made[0], time.perf_counter() - began)

    def _decode(self, batch: Batch, seed: int) -> Samples:
        info = {"network_calls": batch.network_calls, "seconds": batch.seconds}
        return self.decode(batch.state, info, seed=seed)

    def _info(self, parts: Sequence[Mapping[str, Any]], n: int) -> dict[str, Any]:
        """Provenance of joined parts."""
        seconds = sum(float(part.get("seconds", 0.0)) for part in parts)
        return {
            "model": self.name,
            "weights": self.which,
            "kind": self.task.kind,
            "seed": parts[0].get("seed") if parts else None,
            "n": n,
            "batches": len(parts),
            "network_calls": sum(int(part.get("network_calls", 0)) for part in parts),
            "network_calls_per_sample": max(
                (int(part.get("network_calls", 0)) for part in parts), default=0
            ),
            "seconds": seconds,
            "samples_per_second": n / seconds if seconds > 0 else None,
            "device": str(self.device),
            "graphdiff": __version__,
            "torch": str(torch.__version__),
        }


def _line(error: Exception) -> str:
    """The message of an exception on one line."""
    return " ".join(str(error).split())
