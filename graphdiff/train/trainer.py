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

import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Parameter

from graphdiff.core.errors import ConfigError, DataError, TrainingError
from graphdiff.core.rng import Key
from graphdiff.train import store
from graphdiff.train.config import TrainConfig
from graphdiff.train.ema import Ema
from graphdiff.train.engine import Engine, make_engine
from graphdiff.train.log import Log
from graphdiff.train.schedule import learning_rate
from graphdiff.train.window import Window

if TYPE_CHECKING:
    from graphdiff.core.denoiser import Denoiser
    from graphdiff.task import Data, Task

__all__ = ["Outcome", "Progress", "Trainer"]


@dataclass(frozen=True)
class Progress:
    """State of a training at a log record.

    Attributes:
        step: Steps made.
        total: Steps of the whole training.
        losses: Mean loss of each component since the last record.
        eta: Seconds to the end at the present speed.
        epoch: Passes over the data that were begun.
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


@dataclass
class _Live:
    """The moving parts of a run."""

    denoiser: Denoiser
    groups: dict[str, list[Parameter]]
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    step: int = 0
    averages: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


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
    ) -> None:
        self.config = config
        self.out = Path(out)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.engine: Engine = make_engine(device, config.mixed_precision)
        self._data = task.data(root) if data is None else data
        count = len(self._data)
        if count < 1:
            raise DataError("the training set is empty; expected at least one example")
        self.batch_size = min(config.batch_size, count)
        self.steps_per_epoch = -(-count // self.batch_size)
        self.total = config.steps or self.steps_per_epoch * (config.epochs or 1)
        self._fingerprint = self._data.fingerprint()
        self._live = self._build(task)
        self.task = task.prepared(self._live.denoiser, self._data)
        self._stop: int | None = None
        self._order: tuple[int, Tensor] | None = None
        self.outcome: Outcome | None = None

    def run(self, on_progress: Callable[[Progress], None] | None = None) -> Outcome:
        """Train to the end, or until SIGINT or SIGTERM.

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

        SIGINT and SIGTERM end the training after the present step, with a checkpoint; a second
        signal does what it did before.

        Raises:
            TrainingError: The output cannot be written, or the loss is not finite or explodes.
            ConfigError: ``out`` holds another run.
        """
        self._stop = None
        state = torch.get_rng_state()
        previous = self._catch_signals()
        log: Log | None = None
        try:
            position = self._start()
            if self.engine.main:
                log = Log(self.out / "log.jsonl", position)
                log.write("start", self._live.step, **self._facts())
            yield from self._loop(log)
        finally:
            if log is not None:
                log.close()
            for number, handler in previous.items():
                signal.signal(number, handler)
            torch.set_rng_state(state)

    def _loop(self, log: Log | None) -> Iterator[Progress]:
        live, config = self._live, self.config
        live.denoiser.train()
        window = Window(live.step)
        saved = self._newest()
        while live.step < self.total:
            self._step(window)
            end = live.step == self.total or self._asked_to_stop(live.step)
            save = end or live.step % config.checkpoint_every == 0
            if not save and live.step % config.log_every:
                continue
            progress = self._flush(window, log)
            if save:
                saved = self._save(log)
                progress = Progress(**{**vars(progress), "saved": saved})
            window = Window(live.step)
            yield progress
            if end:
                break
        finished = live.step == self.total
        if log is not None:
            log.write("end" if finished else "stop", live.step, seconds=live.seconds)
        assert saved is not None
        self.outcome = self._outcome(finished, saved)

    def _step(self, window: Window) -> None:
        """One optimiser step."""
        live, config, engine = self._live, self.config, self.engine
        step = live.step
        index, epoch = self._batch(step)
        lr = learning_rate(config, step, epoch=epoch, total=self.total)
        for group in live.optimizer.param_groups:
            group["lr"] = lr
        live.optimizer.zero_grad(set_to_none=True)
        rows: Tensor | None = None
        for part, weight in self._parts(index):
            # Dropout and the like draw from torch's generator: fixed by the step, never carried.
            torch.manual_seed(_mix(config.seed, step, int(part[0])))
            clean = self._data.batch(part).to(engine.device)
            key = Key(config.seed, clean.ids, step=step + 1).at(stream="train")
            with engine.autocast():
                losses = self.task.losses(live.denoiser, clean, key)
            names = sorted(losses)
            sums = torch.stack([losses[name].float().sum() for name in names]) * weight
            engine.backward(sums.sum())
            rows = sums.detach() if rows is None else rows + sums.detach()
        assert rows is not None
        engine.reduce_gradients([p for group in live.groups.values() for p in group])
        norms = self._clip()
        live.optimizer.step()
        if live.ema is not None:
            live.ema.update()
        live.step += 1
        window.add(names, rows, norms, index, lr, epoch)

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
            ids = torch.arange(len(self._data))
            words = Key(self.config.seed, ids, step=epoch).at(stream="order").bits(2)
            # 63 random bits an example; ties, if ever, fall in the order of the examples.
            value = (words[:, 0] << 31) | (words[:, 1] >> 1)
            self._order = epoch, torch.argsort(value, stable=True)
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
            norms[name] = norm
        return norms

    def _flush(self, window: Window, log: Log | None) -> Progress:
        """Read the losses of the window, check them and log them."""
        live = self._live
        record = window.close(self.engine)
        problem = record.problem(live.averages, self.config.max_loss_factor)
        if problem is not None:
            self._fail(problem, record.batches, log)
        record.update(live.averages)
        live.seconds += record.seconds
        speed = record.examples / max(record.seconds, 1e-9)
        eta = (self.total - live.step) * record.seconds / record.steps
        if log is not None:
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
        return Progress(live.step, self.total, record.losses, eta, record.epoch, speed)

    def _fail(self, problem: str, batches: list[dict[str, Any]], log: Log | None) -> None:
        folder = self.out / "failed"
        if self.engine.main:
            store.save_failure(self, folder, batches)
            if log is not None:
                log.write("failure", self._live.step, problem=problem)
        newest = self._newest()
        earlier = f"the last good checkpoint is {newest}" if newest else "there is no checkpoint yet"
        raise TrainingError(
            f"{problem}. The weights and the batches since the last check are in {folder}; "
            f"{earlier}. Lower train.lr, set train.clip, or check those examples"
        )

    def _save(self, log: Log | None) -> Path:
        """Write a checkpoint and drop the oldest."""
        path = self.out / "checkpoints" / f"step-{self._live.step:09d}"
        if self.engine.main:
            assert log is not None
            log.write("checkpoint", self._live.step, path=path.name)
            log.sync()
            store.save_checkpoint(self, path, log.position)
        self.engine.wait()
        return path

    def _start(self) -> int:
        """Check the output and resume; returns the length of the log that stays."""
        if self.engine.main:
            store.check_output(self)
        self.engine.wait()
        position = store.resume(self)
        if self._live.step >= self.total and self._newest() is None:
            raise ConfigError(f"train: no step to make, found a total of {self.total}")
        return position

    def _build(self, task: Task) -> _Live:
        config = self.config
        denoiser = task.build()
        self.engine.prepare(denoiser)
        groups = task.groups(denoiser)
        _check_groups(denoiser, groups)
        if config.compile:
            denoiser.compile()
        kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
        optimizer = kind(
            [{"params": parameters} for parameters in groups.values()],
            lr=config.lr,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            amsgrad=config.amsgrad,
            fused=self.engine.device.type in ("cpu", "cuda"),
        )
        ema = Ema(denoiser, config.ema, warmup=config.ema_warmup) if config.ema else None
        return _Live(denoiser, groups, optimizer, ema)

    def _facts(self) -> dict[str, Any]:
        return {
            "total": self.total,
            "examples": len(self._data),
            "batch_size": self.batch_size,
            "batch_size_asked": self.config.batch_size,
            "steps_per_epoch": self.steps_per_epoch,
            "parameters": {n: sum(p.numel() for p in g) for n, g in self._live.groups.items()},
            "device": str(self.engine.device),
            "processes": self.engine.world,
            "threads": torch.get_num_threads(),
        }

    def _newest(self) -> Path | None:
        from graphdiff.train.checkpoint import list_checkpoints

        found = list_checkpoints(self.out)
        return found[-1] if found else None

    def _outcome(self, finished: bool, saved: Path) -> Outcome:
        live = self._live
        if finished:
            message = f"training finished after {live.step} steps; the model is {saved}"
        else:
            name = signal.Signals(self._stop).name if self._stop else "a signal"
            message = (
                f"training stopped by {name} after step {live.step} of {self.total}; saved "
                f"{saved}. Run the same command again to go on from there"
            )
        return Outcome(live.step, self.total, finished, saved, message, self._stop)

    def _catch_signals(self) -> dict[int, Any]:
        if threading.current_thread() is not threading.main_thread():
            return {}

        def ask(number: int, frame: FrameType | None) -> None:
            self._stop = number
            for other, handler in previous.items():
                signal.signal(other, handler)

        previous = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        for number in previous:
            signal.signal(number, ask)
        return previous

    def _asked_to_stop(self, step: int) -> bool:
        """Whether to stop after this step; ranks agree, at log records only."""
        if self.engine.world == 1:
            return self._stop is not None
        if step % self.config.log_every and step % self.config.checkpoint_every:
            return False
        flag = torch.tensor([float(self._stop or 0)], device=self.engine.device)
        asked = int(self.engine.sum(flag).item())
        return asked > 0


def _mix(seed: int, step: int, first: int) -> int:
    """A seed for torch's generator from three numbers (multiplicative hashing, 63 bits)."""
    value = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + first * 0x94D049BB133111EB)
    return (value ^ (value >> 29)) & (2**63 - 1)


def _check_groups(denoiser: Denoiser, groups: dict[str, list[Parameter]]) -> None:
    """Every trainable parameter must be in exactly one group."""
    seen: dict[int, str] = {}
    for group, parameters in groups.items():
        for parameter in parameters:
            if id(parameter) in seen:
                raise ConfigError(
                    f"a parameter is in the groups {seen[id(parameter)]!r} and {group!r}; "
                    "expected each in one group"
                )
            seen[id(parameter)] = group
    lost = [n for n, p in denoiser.named_parameters() if p.requires_grad and id(p) not in seen]
    if lost:
        raise ConfigError(
            f"{len(lost)} trainable parameters are in no group of the task, the first is "
            f"{lost[0]!r}; freeze them or add them to a group"
        )
