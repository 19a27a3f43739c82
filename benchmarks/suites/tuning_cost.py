"""What an iteration of a tuning costs beside its network calls, and what a direct method holds.

*Time.* An iteration is what the trainer does at a step: template, chains, reward, losses, backward
pass, clipping and optimiser. Its network calls are recorded with their inputs, and made again by a
bare loop: forward without a gradient where the tuner wants none, forward and backward where it
does, with gradients of the same inputs. CPU time of the process, the least of several interleaved
runs; ratios within one run, because a shared machine makes single times meaningless. The rewards
are a few tensor operations, so that they cost nothing.

*Memory.* Two exact counts, which no machine changes: numbers in tensors that autograd holds when
the losses of ``draft`` and ``drakes`` are there (parameters aside), against steps ``T`` and
differentiated steps ``K``; and the largest number of bytes alive in a forward and backward pass,
with and without activation checkpoints.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import graphdiff
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.finetune.config import METHODS, TuneConfig
from graphdiff.finetune.task import tuning
from graphdiff.model import Model
from graphdiff.train import TrainConfig, Trainer
from graphdiff.train.window import Window

TITLE = "Cost of a tuning iteration over its network calls; memory of differentiated chains"
LIMIT = 1.2
MODELS = ("mdlm-yeast-promoter", "defog-qm9")
STEPS, BATCH = 16, 64


@dataclass(frozen=True)
class Share:
    """Share of places in class 1; of hard states, and of soft ones with a gradient."""

    name: str = "share of class 1"
    differentiable: bool = True

    def __call__(self, state: State) -> Tensor:
        """Rewards ``[b]``."""
        value = list(state.values.values())[-1]
        one = value[..., 1] if value.is_floating_point() else (value == 1)
        return one.double().flatten(1).mean(1)


@dataclass(frozen=True)
class Call:
    """A network call with its inputs, detached.

    Attributes:
        net: The network.
        inputs: Values, label, masks and conditions.
        wanted: Components whose gradient is asked for.
        grad: Whether a gradient is recorded.
        again: Whether it was made in the backward pass, to compute activations again.
    """

    net: nn.Module
    inputs: tuple[Any, ...]
    wanted: tuple[str, ...]
    grad: bool
    again: bool

    def __call__(self) -> None:
        """The call, and its backward pass where there is one."""
        values, *rest = self.inputs
        with torch.set_grad_enabled(self.grad):
            given = {n: v.requires_grad_() if n in self.wanted else v for n, v in values.items()}
            out = [v for v in self.net(given, *rest).values() if v.requires_grad]
        if out and not self.again:
            torch.autograd.backward(out, [torch.ones((), dtype=v.dtype).expand_as(v) for v in out])


class Recorder:
    """Notes the calls of some networks while it is entered."""

    def __init__(self, *nets: nn.Module) -> None:
        self.calls: list[Call] = []
        self.backward = False
        self._hooks = [net.register_forward_pre_hook(self._note) for net in nets]

    def _note(self, net: nn.Module, inputs: tuple[Any, ...]) -> None:
        values = inputs[0]
        wanted = tuple(n for n, v in values.items() if v.requires_grad)
        plain = {n: v.detach().clone() for n, v in values.items()}
        grad = torch.is_grad_enabled()
        self.calls.append(Call(net, (plain, *inputs[1:]), wanted, grad, grad and self.backward))

    def close(self) -> None:
        """Stop."""
        for hook in self._hooks:
            hook.remove()


def best(functions: list[Callable[[], object]], repeats: int) -> list[float]:
    """Least CPU seconds of each function; runs are interleaved, the first is a warm-up."""
    least = [float("inf")] * len(functions)
    for repeat in range(repeats + 1):
        for k, function in enumerate(functions):
            begin = time.process_time()
            function()
            if repeat:
                least[k] = min(least[k], time.process_time() - begin)
    return least


def trainer_of(model: Model, config: TuneConfig, batch: int, out: Path) -> Trainer:
    """A tuning whose learning rate is so small that every iteration is the same one."""
    how = TrainConfig(
        steps=1, batch_size=batch, lr=1e-12, optimizer="adamw", clip=1.0, ema=None,
        max_loss_factor=None,
    )  # fmt: skip
    task, data = tuning(model, Share(), config, how)
    return Trainer(task, how, out / "run", data, device="cpu")


def cost(model: Model, config: TuneConfig, batch: int, repeats: int, out: Path) -> dict[str, Any]:
    """CPU time of an iteration of the trainer and of its bare network calls."""
    trainer = trainer_of(model, config, batch, out)
    live, task = trainer._live, trainer.task
    live.denoiser.train()

    def iteration() -> None:
        live.step = 0  # the same chains, steps and noise every time
        trainer._step(Window(0))

    recorder = Recorder(live.denoiser.net, task.reference.net)  # type: ignore[attr-defined]
    backward = trainer.engine.backward

    def noted(loss: Tensor) -> None:
        recorder.backward = True
        backward(loss)

    trainer.engine.backward = noted  # type: ignore[method-assign]
    iteration()
    trainer.engine.backward = backward  # type: ignore[method-assign]
    recorder.close()
    calls = recorder.calls

    def bare() -> None:
        live.optimizer.zero_grad(set_to_none=True)
        for call in calls:
            call()

    own, network = best([iteration, bare], repeats)
    learnt = sum(c.grad and not c.again and c.net is live.denoiser.net for c in calls)
    lora = "" if config.lora is None else f", rank {config.lora}"
    checkpoint = ", checkpoint" if config.checkpoint else ""
    return {
        "model": model.name,
        "method": f"{config.method}{checkpoint}{lora}",
        "calls": len(calls),
        "with_backward": learnt,
        "bare_ms": network * 1e3,
        "iteration_ms": own * 1e3,
        "ratio": own / network,
    }


class Held(torch.autograd.graph.saved_tensors_hooks):
    """Numbers in the tensors that autograd holds; storages count once, parameters never."""

    def __init__(self, *nets: nn.Module) -> None:
        self._own = {p.untyped_storage()._cdata for net in nets for p in net.parameters()}
        self._found: dict[int, int] = {}
        self._alive: list[Any] = []  # a storage that is freed could give its address to the next
        super().__init__(self._pack, lambda x: x)

    def _pack(self, x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in self._own:
            self._found[storage._cdata] = storage.nbytes() // x.element_size()
            self._alive.append(storage)
        return x

    @property
    def numbers(self) -> int:
        """So many."""
        return sum(self._found.values())


class Peak(TorchDispatchMode):
    """Largest number of bytes that are alive at once, of what is made while it is entered."""

    def __init__(self, *nets: nn.Module) -> None:
        super().__init__()
        self.live = self.most = 0
        self._known = {p.untyped_storage()._cdata for net in nets for p in net.parameters()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation; what it makes is counted until it is freed."""
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and x.untyped_storage()._cdata not in self._known:
                storage = x.untyped_storage()
                self._known.add(storage._cdata)
                self.live += storage.nbytes()
                weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())
        self.most = max(self.most, self.live)
        return out

    def _free(self, place: int, count: int) -> None:
        self._known.discard(place)
        self.live -= count


def chain_losses(model: Model, config: TuneConfig, batch: int) -> tuple[Callable[[], Tensor], Any]:
    """What computes the loss of one iteration, and the networks that take part."""
    how = TrainConfig(steps=1, batch_size=batch, max_loss_factor=None)
    task, data = tuning(model, Share(), config, how)
    denoiser, clean = task.build().train(), data.batch(torch.arange(batch))

    def losses() -> Tensor:
        torch.manual_seed(0)  # dropout
        found = task.losses(denoiser, clean, Key(0, clean.ids, step=1))
        return torch.stack([v.float().mean() for v in found.values()]).sum()

    return losses, (denoiser, task.reference)


def held(model: Model, config: TuneConfig, batch: int) -> int:
    """Numbers that autograd holds when the loss of an iteration is there."""
    losses, nets = chain_losses(model, config, batch)
    count = Held(*nets)
    with count:
        losses()
    return count.numbers


def peak(model: Model, config: TuneConfig, batch: int) -> int:
    """Most bytes alive in the forward and backward pass of an iteration."""
    losses, nets = chain_losses(model, config, batch)
    count = Peak(*nets)
    with count:
        losses().backward()
    return count.most


def direct(method: Any, steps: int, kept: int, checkpoint: bool = False) -> TuneConfig:
    """A direct method that differentiates the last ``kept`` of ``steps`` steps."""
    return TuneConfig(method, steps=steps, truncate=kept, picked=4, checkpoint=checkpoint)


def _times(models: list[Model], quick: bool, out: Path) -> list[dict[str, Any]]:
    batch, repeats = (8, 1) if quick else (BATCH, 3)
    # Adjoint matching steers Gaussian noise, which neither model has.
    configs = [TuneConfig(m, steps=STEPS) for m in METHODS if m != "adjoint"]  # type: ignore[arg-type]
    configs += [
        TuneConfig("drakes", steps=STEPS, checkpoint=True),
        TuneConfig("wdce", steps=STEPS, lora=8),
        TuneConfig("drakes", steps=STEPS, lora=8),
    ]
    return [cost(model, config, batch, repeats, out) for model in models for config in configs]


def _memory(models: list[Model]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of counts, and what is asked of them."""
    rows: list[dict[str, Any]] = []
    checks: list[dict[str, Any]] = []
    for model in models:
        for method in ("draft", "drakes"):
            found = {(t, k): held(model, direct(method, t, k), 4)
                     for t in (16, 32) for k in (2, 4, 8)}  # fmt: skip
            tops = {(c, k): peak(model, direct(method, 16, k, c), 4)
                    for c in (False, True) for k in (2, 4, 8)}  # fmt: skip
            rows += [
                {
                    "model": model.name, "method": method, "K": k,
                    "held_T16": found[16, k], "held_T32": found[32, k],
                    "peak_mb": tops[False, k] / 1e6, "peak_checkpoint_mb": tops[True, k] / 1e6,
                }
                for k in (2, 4, 8)
            ]  # fmt: skip
            what = f"{model.name}, {method}"
            longer = max(found[32, k] / found[16, k] for k in (2, 4, 8))
            slope = (found[16, 8] - found[16, 4]) / (found[16, 4] - found[16, 2])
            again = (tops[True, 8] - tops[True, 2]) / (tops[False, 8] - tops[False, 2])
            checks += [
                # A table of all times counts as a whole: .2 % of what the smallest chain holds.
                _check(f"{what}: held with T = 32 over T = 16", longer, 1.0, longer < 1.01),
                _check(f"{what}: held by steps 5 to 8 over 3 to 4", slope, 2.0,
                       abs(slope - 2) < 0.01),
                _check(f"{what}: growth of the peak with K, checkpoints over none", again, 0.1,
                       again < 0.1),
            ]  # fmt: skip
    return rows, checks


def _check(name: str, value: float, wanted: float, passed: bool) -> dict[str, Any]:
    return {"name": name, "value": value, "wanted": wanted, "passed": passed}


def run(quick: bool, out: Path) -> dict[str, Any]:
    """Measure all methods; ``quick`` uses small batches and one run of each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        models = [graphdiff.load(name) for name in MODELS]
        memory, checks = _memory(models)
        table = _times(models, quick, out)
    finally:
        torch.set_num_threads(threads)
    for row in table:
        name = f"{row['model']}, {row['method']}: iteration over its bare network calls"
        checks.append(_check(name, row["ratio"], LIMIT, row["ratio"] <= LIMIT))
    return {
        "table": table,
        "memory": memory,
        "checks": checks,
        "steps": STEPS,
        "batch": BATCH,
        "threads": 1,
    }
