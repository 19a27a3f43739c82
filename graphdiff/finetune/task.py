r"""Fine-tuning as a training: a task whose examples are chains of the model itself.

:class:`TuneTask` wraps the task of a model. An example is the template of a sample; its loss draws
the sample with the present network, judges it and says what to learn from it. The trainer, its log,
checkpoints and resuming to the bit need nothing new, and what it writes is a model of the same kind
as the base. Samples of a batch are compared with each other, so a batch cannot be computed in parts
(``train.accumulate``); with several processes each compares its own share.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor
from torch.nn import Parameter

from graphdiff.core.denoiser import Denoiser
from graphdiff.core.errors import ArgumentError, ConfigError
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler
from graphdiff.core.soft import soften
from graphdiff.core.state import State
from graphdiff.core.value import RewardFunction, rewards_of
from graphdiff.finetune.adjoint import memoryless
from graphdiff.finetune.config import DIRECT, POLICY, WEIGHTED, TuneConfig
from graphdiff.finetune.constraint import Constraint, Lagrangian
from graphdiff.finetune.direct import require_differentiable
from graphdiff.finetune.lesson import Lesson, learn
from graphdiff.finetune.replay import Memory
from graphdiff.finetune.rollout import Tuned, replayable, worst_for_none
from graphdiff.finetune.sepo import levels
from graphdiff.finetune.watch import (
    check,
    diversity,
    estimated_distance,
    novelty,
    require_tokens,
    training_keys,
)
from graphdiff.model import Model
from graphdiff.task import Data, Samples, Task
from graphdiff.train.config import TrainConfig
from graphdiff.train.lora import adapt

__all__ = ["Templates", "TuneTask", "tuning"]

COUNT = 1 << 20


class Templates(Data):
    """Templates of samples, as many as a training may want."""

    def __init__(
        self,
        task: Task,
        seed: int,
        facts: Mapping[str, Any],
        cond: Mapping[str, Any] | None = None,
    ) -> None:
        self._task, self._seed, self._facts = task, seed, dict(facts)
        self._cond = dict(cond or {})

    def __len__(self) -> int:
        return COUNT

    def batch(self, index: Tensor) -> State:
        """Shapes and masks of the samples ``index``."""
        sizes = self._task.sizes(index, self._seed, **self._cond)
        cond = self._task.settled(index, sizes, self._seed, **self._cond)
        return self._task.template(index, sizes, pad=int(sizes.max()), **cond)

    def fingerprint(self) -> dict[str, Any]:
        """Base model, reward and method."""
        return self._facts


@dataclass(frozen=True)
class TuneTask(Task):
    """The task of a model, tuned towards a reward.

    Attributes:
        base: The task.
        reference: The base model's network, frozen.
        reward: Of finished samples.
        config: How it is tuned.
        seen: What training examples are known by, if novelty is logged.
        seed: Of the first factors of low-rank changes.
        found: Samples that are replayed, for ``"replay"``.
    """

    base: Task
    reference: Denoiser
    reward: RewardFunction
    config: TuneConfig
    seen: frozenset[Hashable] | None = None
    seed: int = 0
    found: Memory | None = None
    title: ClassVar[str] = "reward fine-tuning"

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The kind of the base: what is written is a model of that kind."""
        return self.base.kind

    @property
    def citation(self) -> str:  # type: ignore[override]
        """Of the base."""
        return self.base.citation

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "config") -> NoReturn:
        """Not from a table: a tuned model is read as its base is.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError("a tuning is made of a model and a reward; use graphdiff.finetune.tuning")

    def to_config(self) -> dict[str, Any]:
        """That of the base."""
        return self.base.to_config()

    def build(self) -> Denoiser:
        """A network with the weights of the reference, or with low-rank changes of them.

        Raises:
            ConfigError: The changes would be larger than the network, or it has no matrix.
        """
        denoiser = self.base.build()
        denoiser.load_state_dict(self.reference.state_dict())
        if self.config.lora is not None:
            adapt(denoiser, self.config.lora, seed=self.seed)
        return denoiser

    def data(self, root: str | Path | None = None) -> Data:
        """Templates."""
        return Templates(self.base, 0, {"name": "samples"})

    def groups(self, denoiser: Denoiser) -> dict[str, list[Parameter]]:
        """Those of the base, without what low-rank changes leave as it is."""
        groups = self.base.groups(denoiser)
        if self.config.lora is not None:
            groups = {name: [p for p in g if p.requires_grad] for name, g in groups.items()}
        return {name: group for name, group in groups.items() if group}

    def memory(self, batch: int, *, training: bool) -> int | None:
        """Activations of every step that is differentiated."""
        each = self.base.memory(batch, training=training)
        config, total = self.config, self._chain().network_calls
        times = 1
        if config.method in (*POLICY, "vidd"):
            times = config.picked or total
        elif config.method in DIRECT and not config.checkpoint:
            times = 2 * (config.truncate or total)  # of the network, and of the reference
        return None if each is None else each * times

    def losses(self, denoiser: Denoiser, clean: State, key: Key) -> dict[str, Tensor]:
        """Draw, judge, and what to learn from it; the rest is for the log, and has no gradient.

        ``reward`` comes with a minus; :mod:`graphdiff.finetune.watch` and
        :mod:`graphdiff.finetune.constraint` name the others.

        Raises:
            TrainingError: The tuning has collapsed, or has gone too far.
        """
        # Without dropout: what is tuned is the model that is sampled, at no distance from the base.
        denoiser.eval()
        tuned = Tuned(self.config, self._chain(), denoiser, self.reference.to(clean.device))
        seed = (key.seed * 0x9E3779B97F4A7C15 + (key.step + 1) * 0xBF58476D1CE4E5B9) % (1 << 62)
        lesson = learn(self.base, tuned, clean, self.reward, seed, key, self.found)
        some = next(iter(lesson.losses.values()))
        notes = self._report(tuned, lesson, key)
        shown = {name: note.to(some).expand(len(some)) for name, note in notes.items()}
        return {**lesson.losses, **shown}

    def _report(self, tuned: Tuned, lesson: Lesson, key: Key) -> dict[str, Tensor]:
        """What to log of a batch, scalars or ``[b]``; constraints move their multipliers."""
        config, process, ends = self.config, tuned.sampler.process, lesson.ends
        notes = {**diversity(process, ends), **lesson.notes}
        if config.path_kl:
            notes["distance"] = lesson.losses["kl"].detach().mean() / config.alpha
        elif lesson.rollout is not None:
            notes["distance"] = estimated_distance(tuned, lesson.rollout, key).mean()
        if self.seen is not None:
            notes["novelty"] = novelty(self.base, self.seen, ends)
        check(config, notes, ends.batch_size)
        rewards = lesson.rewards
        if isinstance(self.reward, Lagrangian):
            # Differentiable scores read class weights.
            judged = soften(process, ends) if config.method in DIRECT else ends
            with torch.no_grad():
                rewards = worst_for_none(rewards_of(self.reward.reward, judged))
                notes.update(self.reward.ascend(judged, lesson.weights))
        whole = len(rewards) == len(next(iter(lesson.losses.values())))
        return {"reward": -rewards if whole else -rewards.mean(), **notes}

    def training_state(self) -> dict[str, Any]:
        """The multipliers of constraints, or the samples that are replayed, if there are any."""
        if self.found is not None:
            return self.found.state()
        return self.reward.state() if isinstance(self.reward, Lagrangian) else {}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Go on with the multipliers, or the samples, of a checkpoint."""
        if self.found is not None:
            self.found.load(state)
        if isinstance(self.reward, Lagrangian):
            self.reward.load(state)

    def _chain(self) -> Sampler:
        """The sampler that is tuned.

        Raises:
            ConfigError: Its steps cannot be replayed, or, for ``adjoint``, made memoryless.
        """
        wanted = {"steps": self.config.steps, "solver": self.config.solver}
        changes = {name: value for name, value in wanted.items() if value is not None}
        sampler = self.base.sampler(**changes)
        return memoryless(sampler) if self.config.method == "adjoint" else replayable(sampler)

    # -- samples: as the base ---------------------------------------------------------------------

    def sampler(self, **overrides: Any) -> Any:
        """That of the base."""
        return self.base.sampler(**overrides)

    def sizes(self, ids: Tensor, seed: int, **cond: Any) -> Tensor:
        """Those of the base."""
        return self.base.sizes(ids, seed, **cond)

    def settled(self, ids: Tensor, sizes: Tensor, seed: int, **cond: Any) -> dict[str, Any]:
        """As the base."""
        return self.base.settled(ids, sizes, seed, **cond)

    def template(self, ids: Tensor, sizes: Tensor, *, pad: int, **cond: Any) -> State:
        """That of the base."""
        return self.base.template(ids, sizes, pad=pad, **cond)

    def decode(self, state: State) -> tuple[list[Any], Any]:
        """As the base."""
        return self.base.decode(state)

    def join(self, raws: Sequence[Any], order: Sequence[int]) -> Any:
        """As the base."""
        return self.base.join(raws, order)

    def write(self, samples: Samples, out: Path) -> list[Path]:
        """As the base."""
        return self.base.write(samples, out)

    def convert(self, samples: Samples, kind: str) -> Sequence[Any]:
        """As the base."""
        return self.base.convert(samples, kind)

    def draw(self, samples: Samples, path: Path, *, count: int = 25) -> Path:
        """As the base."""
        return self.base.draw(samples, path, count=count)


def tuning(
    model: Model,
    reward: RewardFunction,
    config: TuneConfig,
    train: TrainConfig,
    constraints: Sequence[Constraint] = (),
    cond: Mapping[str, Any] | None = None,
) -> tuple[TuneTask, Templates]:
    """Task and data for a :class:`graphdiff.train.Trainer` that tunes ``model``.

    Args:
        model: The base model.
        reward: Of finished samples.
        config: How it is tuned.
        train: How it is trained.
        constraints: Bounds on means over samples (:mod:`graphdiff.finetune.constraint`).
        cond: Condition of all samples that are drawn, as in
            :meth:`graphdiff.model.Model.sample`.

    Raises:
        ArgumentError: A constraint is there twice.
        ConfigError: The model's sampler or training loss cannot be used for tuning, the batch is
            no multiple of a group, or a setting of the training makes no sense for it.
        DataError: The training set that novelty is measured against cannot be loaded.
    """
    if train.accumulate > 1:
        raise ConfigError(
            f"train.accumulate is {train.accumulate}, but a tuner compares the samples of a batch "
            "with each other; set it to 1 and lower train.batch_size (or tune.picked) instead"
        )
    if train.max_loss_factor is not None:
        raise ConfigError(
            f"train.max_loss_factor is {train.max_loss_factor:g}, but the divergence from the base "
            "model starts at zero and grows by any factor; set it to None"
        )
    if config.method in ("grpo", "sepo", "sdpo", "smc") and train.batch_size % config.group:
        raise ConfigError(
            f"train.batch_size is {train.batch_size}, expected a multiple of tune.group "
            f"({config.group})"
        )
    if config.method == "replay" and constraints:
        raise ConfigError(
            "tune.method 'replay' keeps rewards, which constraints would change from step to step; "
            "put the score into the reward with a weight, or choose another method"
        )
    reference = model.task.build()
    reference.load_state_dict(model.denoiser.state_dict())
    reference.eval().requires_grad_(False)
    target = Lagrangian(reward, constraints, config.dual_lr) if constraints else reward
    seen = training_keys(model.task, model.task.data()) if config.novelty else None
    found = Memory(config.memory) if config.method == "replay" else None
    task = TuneTask(model.task, reference, target, config, seen, train.seed, found)
    chain = task._chain()
    if config.method == "sepo":
        levels(chain)
    require_tokens(config, chain.process)
    if config.lora is not None:
        task.build()  # what cannot be adapted is named before a run is begun
    if config.method in WEIGHTED:
        _require_losses(task, cond)
    if config.method in (*DIRECT, "adjoint"):
        require_differentiable(Tuned(config, chain, reference, reference), target)
    facts = {
        "name": model.dataset or "samples",
        "split": "samples of the model itself",
        "base": model.name,
        "base_sha256": {name: file.sha256 for name, file in model.card.files.items()},
        "reward": getattr(reward, "name", type(reward).__name__),
        "constraints": [constraint.name for constraint in constraints],
        "tune": asdict(config),
        **({"cond": {name: str(value) for name, value in cond.items()}} if cond else {}),
    }
    return task, Templates(model.task, train.seed, facts, cond)


def _require_losses(task: TuneTask, cond: Mapping[str, Any] | None) -> None:
    """Check that the training loss of the base takes what its sampler makes.

    Raises:
        ConfigError: It reads more than a finished sample holds.
    """
    ids = torch.arange(2)
    clean = Templates(task.base, 0, {}, cond).batch(ids)
    try:
        with torch.no_grad():
            task.base.losses(task.reference, clean, Key(0, ids, step=1))
    except ArgumentError as error:
        raise ConfigError(
            f"the training loss of {task.kind!r} reads more than a sample holds ({error}), so "
            f"{task.config.method} cannot train on samples; choose tune.method ddpo or grpo"
        ) from error
