"""The training loop, the same for every task.

Step ``k`` (from 1) takes a batch ``I_k`` of example indices from a permutation of the training set
that is fixed by (seed, epoch), and noise that is fixed by (seed, example, step)::

    L = sum_c (1 / |I_k|) sum_{i in I_k} loss_c(x_i, noise(seed, i, k))

Nothing depends on earlier random draws, on the number of processes or on the accumulation, so a
run that is killed at any moment and started again ends with the same bits, and several processes
compute what one would, up to rounding. Losses stay on the device until a log record is due; a
checkpoint is saved only after the losses before it were found finite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graphdiff.core.errors import DataError, TrainingError
from graphdiff.core.rng import Key
from graphdiff.train import store
from graphdiff.train.checkpoint import list_checkpoints
from graphdiff.train.config import TrainConfig
from graphdiff.train.engine import Engine, make_engine
from graphdiff.train.live import Live
from graphdiff.train.log import Log
from graphdiff.train.memory import refuse_if_too_large
from graphdiff.train.schedule import learning_rate
from graphdiff.train.stop import StopRequest
from graphdiff.train.window import Window

if TYPE_CHECKING:
    from graphdiff.task import Data, Task

__all__ = ["Outcome", "Progress", "Trainer"]


@dataclass(frozen=True)
class Progress:
    """Where a training stands, at a log record.

    Attributes:
        step: Steps made.
        total: Steps of the whole training.
        losses: Mean loss of each component since the last record.
        eta: Seconds to the end at the present speed.
        epoch: Epoch (from 0) of the last step.
        examples_per_second: Speed since the last record.
        saved: The checkpoint that was written just now.
    """

    step: int
    total: int
    losses: dict[str, float]
    eta: float
    epoch: int = 0
    examples_per_second: float = 0.0
    saved: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        step: Steps made.
        total: Steps of the whole training.
        finished: Whether all steps were made; otherwise a signal asked to stop.
        model: Folder of the last checkpoint; it loads as a model.
        message: One sentence for the user.
        signal: Number of the signal that stopped the training.
    """

    step: int
    total: int
    finished: bool
    model: Path
    message: str
    signal: int | None = None


class Trainer:
    """Trains a task and keeps everything that belongs to the run in one folder.

    ``out/log.jsonl`` is the log, ``out/checkpoints/step-…`` are the newest checkpoints (each loads
    as a model). If ``out`` already holds a run of the same configuration and data, it goes on from
    its newest checkpoint.

    Args:
        task: What is trained.
        config: How.
        out: Folder of the run.
        data: Training set; ``task.data(root)`` if not given.
        root: Where data sets are looked for.
        device: Device; a GPU where there is one.
        init: A model (name or folder) whose weights the training starts from, to fine-tune it on
            other data; its averaged weights, where there are any. A run that goes on from a
            checkpoint does not read it.

    Raises:
        DataError: The training set is empty, or cannot be loaded.
        ConfigError: A batch would not fit into memory.
        CheckpointError: There is no model ``init``, or its weights do not fit the network.
    """

    def __init__(
        self,
        task: Task,
        config: TrainConfig,
        out: str | Path,
        data: Data | None = None,
        *,
        root: str | Path | None = None,
        device: str | torch.device | None = None,
        init: str | Path | None = None,
    ) -> None:
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.config = config
        self.out = Path(out)
        self.engine: Engine = make_engine(device, config.mixed_precision)
        self.data = task.data(root) if data is None else data
        count = len(self.data)
        if count < 1:
            raise DataError("the training set is empty; expected at least one example")
        self.batch_size = min(config.batch_size, count)
        self.steps_per_epoch = -(-count // self.batch_size)
        self.total = config.steps or self.steps_per_epoch * (config.epochs or 1)
        self.outcome: Outcome | None = None
        self._task = task.prepared(self.data)
        self._init = init
        part = -(-self.batch_size // (self.engine.world * config.accumulate))
        refuse_if_too_large(
            self._task.memory(part, training=True),
            self.engine.device,
            f"training with batches of {part}",
            "lower train.batch_size, or raise train.accumulate, which computes a batch in parts "
            "and changes nothing else",
        )
        self._live = self._build()
        self._order: tuple[int, Tensor] | None = None

    @property
    def step(self) -> int:
        """Steps made so far."""
        return self._live.step

    @property
    def task(self) -> Task:
        """The task as it goes into the card, with the facts of the data that it samples with."""
        return self._live.task

    @property
    def trained(self) -> int:
        """Numbers in the parameters that are trained."""
        return sum(p.numel() for p in self._live.parameters if p.requires_grad)

    @property
    def frozen(self) -> int:
        """Numbers in the parameters that stay as they are."""
        return sum(p.numel() for p in self._live.denoiser.parameters() if not p.requires_grad)

    def run(self, on_progress: Callable[[Progress], None] | None = None) -> Outcome:
        """Train to the end, or until SIGINT or SIGTERM; see :meth:`events`.

        Raises:
            TrainingError: The output cannot be written, or the loss is not finite or explodes.
            ConfigError: ``out`` holds another run.
        """
        for progress in self.events():
            if on_progress is not None:
                on_progress(progress)
        assert self.outcome is not None
        return self.outcome

    def events(self) -> Iterator[Progress]:
        """Train, and yield at every log record; :attr:`outcome` is set at the end.

        SIGINT and SIGTERM end the training after the present step, with a checkpoint (with several
        processes: at the next log record); a second signal does what it did before.

        Raises:
            TrainingError: The output cannot be written, or the loss is not finite or explodes.
            ConfigError: ``out`` holds another run.
            CheckpointError: The checkpoint to go on from is damaged.
        """
        self.outcome = None
        if self._live.step:
            self._live = self._build()  # a training that was left: go on from its checkpoint
        generator = torch.get_rng_state()
        try:
            with StopRequest() as stop, store.Output(self.out, self.engine.main) as output:
                output.check(self._live)
                self.engine.wait()
                position = store.resume(self._live)
                with Log.open(self.out / "log.jsonl", position, self.engine.main) as log:
                    log.write("start", self.step, **self._facts())
                    yield from self._loop(log, stop)
        finally:
            torch.set_rng_state(generator)

    def _loop(self, log: Log, stop: StopRequest) -> Iterator[Progress]:
        live, config = self._live, self.config
        live.denoiser.train()
        window, saved, end = Window(live.step), None, live.step == live.total
        while not end:
            self._step(window)
            end = live.step == live.total or self._asked_to_stop(stop)
            save = end or live.step % config.checkpoint_every == 0
            if not save and live.step % config.log_every:
                continue
            progress = self._record(window, log)
            if save:
                saved = self._save(log)
            yield replace(progress, saved=saved if save else None)
            window = Window(live.step)
        if saved is None:
            saved = list_checkpoints(self.out)[-1]
        finished = live.step == live.total
        log.write("end" if finished else "stop", live.step, seconds=round(live.seconds, 3))
        message = (
            f"training finished after {live.step} steps; the model is {saved}"
            if finished
            else f"training stopped by {stop.name} after step {live.step} of {live.total}; saved "
            f"{saved}. Run the same command again to go on from there"
        )
        self.outcome = Outcome(live.step, live.total, finished, saved, message, stop.number)

    def _step(self, window: Window) -> None:
        """One optimiser step."""
        live, config, engine = self._live, self.config, self.engine
        index, epoch = self._batch(live.step)
        lr = learning_rate(config, live.step, epoch=epoch, total=live.total)
        for group in live.optimizer.param_groups:
            group["lr"] = lr
        live.optimizer.zero_grad(set_to_none=True)
        parts = [self._backward(part, weight) for part, weight in self._parts(index)]
        losses = {name: torch.stack([p[name] for p in parts]).sum() for name in parts[0]}
        engine.reduce_gradients(live.parameters)
        norms = self._clip()
        live.optimizer.step()
        if live.ema is not None:
            live.ema.update()
        live.step += 1
        window.add(losses, norms, index, lr, epoch)

    def _backward(self, part: Tensor, weight: float) -> dict[str, Tensor]:
        """Add the gradient of the weighted losses of some examples; returns these losses."""
        config, engine, step = self.config, self.engine, self._live.step
        # Dropout and the like draw from torch's generator: fixed by the step, never carried over.
        engine.seed(_mix(config.seed, step, int(part[0])))
        clean = self.data.batch(part).to(engine.device)
        key = Key(config.seed, clean.ids, step=step + 1).at(stream="train")
        with engine.autocast():
            losses = self._live.task.losses(self._live.denoiser, clean, key)
        for name, value in losses.items():
            if value.shape != part.shape:
                raise TrainingError(
                    f"the loss of component {name!r} has shape {list(value.shape)}, expected one "
                    f"number for each of the {len(part)} examples; correct losses() of the task"
                )
        sums = {name: losses[name].float().sum() * weight for name in sorted(losses)}
        engine.backward(torch.stack(list(sums.values())).sum())
        return {name: value.detach() for name, value in sums.items()}

    def _parts(self, index: Tensor) -> Iterator[tuple[Tensor, float]]:
        """This rank's share of the batch in pieces, with the weight of an example's loss."""
        share = index[self.engine.share(len(index))]
        if len(share) == 0:
            # More ranks than examples: take part in the collectives with a loss of weight zero.
            yield index[:1], 0.0
            return
        for part in share.tensor_split(min(self.config.accumulate, len(share))):
            yield part, 1.0 / len(index)

    def _batch(self, step: int) -> tuple[Tensor, int]:
        """Example indices of the global batch of ``step`` (from 0), and its epoch."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, _permutation(len(self.data), self.config.seed, epoch)
        order = self._order[1]
        return order[place * self.batch_size : (place + 1) * self.batch_size], epoch

    def _clip(self) -> dict[str, Tensor]:
        """Gradient norm of each group before clipping, on the device."""
        norms = {}
        for name, parameters in self._live.groups.items():
            gradients = [p.grad for p in parameters if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
            if self.config.clip is not None:
                torch.nn.utils.clip_grads_with_norm_(
                    parameters, self.config.clip, norm, foreach=True
                )
            norms[name] = norm.detach()
        return norms

    def _record(self, window: Window, log: Log) -> Progress:
        """Read the losses of the window, check them and log them."""
        live = self._live
        record = window.close(self.engine)
        problem = record.problem(live.averages, self.config.max_loss_factor)
        if problem is not None:
            log.write("failure", live.step, problem=problem)
            if self.engine.main:
                store.save_failure(live, record.batches)
            self.engine.wait()
            raise TrainingError(f"{problem}. {store.after_failure(live)}")
        record.update(live.averages)
        live.seconds += record.seconds
        speed = record.examples / max(record.seconds, 1e-9)
        eta = (live.total - live.step) * record.seconds / record.steps
        log.write(
            "train",
            live.step,
            epoch=record.epoch,
            loss=record.losses,
            grad_norm=record.norms,
            lr=record.lr,
            examples_per_second=round(speed, 3),
            eta=round(eta, 1),
            seconds=round(live.seconds, 3),
        )
        return Progress(live.step, live.total, record.losses, eta, record.epoch, speed)

    def _save(self, log: Log) -> Path:
        """Write a checkpoint and drop the oldest."""
        path = self.out / "checkpoints" / f"step-{self.step:09d}"
        log.write("checkpoint", self.step, path=path.name)
        log.sync()
        if self.engine.main:
            store.save_checkpoint(self._live, path, log.position)
        self.engine.wait()
        return path

    def _build(self) -> Live:
        return Live.build(
            self._task, self.config, self.out, self.data, self.total, self.engine, self._init
        )

    def _facts(self) -> dict[str, Any]:
        return {
            "total": self.total,
            "examples": len(self.data),
            "batch_size": self.batch_size,
            "batch_size_asked": self.config.batch_size,
            "steps_per_epoch": self.steps_per_epoch,
            "parameters": {n: sum(p.numel() for p in g) for n, g in self._live.groups.items()},
            "frozen": self.frozen,
            "device": str(self.engine.device),
            "processes": self.engine.world,
            "init": None if self._init is None else str(self._init),
            "threads": torch.get_num_threads(),
        }

    def _asked_to_stop(self, stop: StopRequest) -> bool:
        """Whether to stop after this step; several processes agree, at log records only."""
        if self.engine.world == 1:
            return stop.number is not None
        if self.step % self.config.log_every and self.step % self.config.checkpoint_every:
            return False
        flag = torch.tensor([float(stop.number is not None)], device=self.engine.device)
        return bool(self.engine.sum(flag).item())


def _permutation(count: int, seed: int, epoch: int) -> Tensor:
    """A permutation of ``count`` examples that only (seed, epoch) fix, int64 ``[count]``."""
    words = Key(seed, torch.arange(count), step=epoch).at(stream="order").bits(2)
    # 63 random bits for each example; ties, if ever, fall in the order of the examples.
    return torch.argsort((words[:, 0] << 31) | (words[:, 1] >> 1), stable=True)


def _mix(seed: int, step: int, first: int) -> int:
    """A seed for torch's generator from three numbers (multiplicative hashing, 63 bits)."""
    value = seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + first * 0x94D049BB133111EB
    return (value ^ (value >> 29)) & (2**63 - 1)
