r"""Training on what was found: a memory of different samples, replayed by their rewards.

Every iteration draws some samples of the present model, keeps those that are new, and trains on
samples of the memory. With :math:`F` the different samples found so far, each kept once however
often it was drawn, and :math:`L` the loss that trained the model,

.. math:: \min_\theta \sum_{x \in F} q(x)\, L_\theta(x), \qquad
    q(x) = \frac{e^{r(x)/\alpha}}{\sum_{y \in F} e^{r(y)/\alpha}} .

``q`` is, of all laws on ``F`` with its mean reward, the one of greatest entropy. The base model is
where the search begins, not what the result is held to: as the search goes on ``F`` grows beyond
what the base model makes, and both the reward and the number of different samples with it can rise
at once, which no tilt :math:`p_{ref}\, e^{r/\alpha}` allows. A sample is paid for once and learnt
from many times, so that few rewards and few chains are needed. Memories of molecules in this role
are those of Blaschke et al. (2020, J. Cheminform. 12:68), who punish what is found again, and of
Guo and Schwaller (2023, arXiv 2305.16160), who replay the best; reward-ranked training is RAFT
(Dong et al., 2023, arXiv 2304.06767).

The effective number of samples :math:`1 / \sum_x q(x)^2` forecasts how varied samples will be: of
``n`` independent draws of ``q`` about :math:`n^2 / 2` over it meet one that was there before. While
the memory is young, a temperature of its own, never below :math:`\alpha`, keeps at least
``effective`` samples in play (all there are, if they are fewer).

Whatever ends without a reward is not kept. What is kept is the sample as it was drawn, so a reward
of corrected samples should say what an uncorrected one is worth (``--reward valid``).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from graphdiff.core.errors import CheckpointError, ConfigError
from graphdiff.core.rng import Key
from graphdiff.core.space import Space
from graphdiff.core.state import State, concat, pad
from graphdiff.core.value import RewardFunction, repeat
from graphdiff.finetune.rollout import Rollout, Tuned, roll
from graphdiff.task import Task

__all__ = ["Memory", "names_of", "replay_losses", "temperature"]


@dataclass
class Memory:
    """Different samples and their rewards, on the CPU.

    Attributes:
        limit: So many are kept; the lowest rewards go first.
        samples: The samples, padded to the largest; None while there is none.
        rewards: Their rewards ``[n]``, float64.
        known: What they are known by, in the same order.
    """

    limit: int
    samples: State | None = None
    rewards: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    known: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.known)

    def add(
        self,
        ends: State,
        names: Sequence[int],
        rewards: Tensor,
        scored: Tensor,
        spaces: Mapping[str, Space],
    ) -> int:
        """Keep the finished samples that are new; how many that were.

        With several processes every one keeps what all of them found.

        Args:
            ends: Finished samples.
            names: What they are known by, see :func:`names_of`.
            rewards: Their rewards ``[b]``.
            scored: Whether a sample has one ``[b]``.
            spaces: Space of each component.

        Raises:
            ConfigError: Conditions of the samples differ in shape from those that are kept.
        """
        found = ends.to("cpu")
        batch = (found.values, found.masks, rewards.cpu(), scored.cpu(), names)
        before = len(self)
        for values, masks, worth, real, told in _everyone(batch):
            fresh: dict[int, int] = {}
            there = set(self.known)
            for i, name in enumerate(told):
                if bool(real[i]) and name not in there:
                    fresh.setdefault(name, i)
            if fresh:
                index = torch.tensor(list(fresh.values()))
                state = State(values, masks, torch.zeros(len(told), dtype=torch.int64))
                self._append(state.select(index), spaces)
                self.rewards = torch.cat([self.rewards, worth[index].double()])
                self.known += fresh
        new = len(self) - before
        self._forget()
        return new

    def _append(self, more: State, spaces: Mapping[str, Space]) -> None:
        if self.samples is None:
            self.samples = more
            return
        size = max((m.shape[1] for s in (self.samples, more) for m in s.masks.values()), default=0)
        both = [pad(s, spaces, size) if s.masks else s for s in (self.samples, more)]
        for name in more.values:
            if both[0][name].shape[1:] != both[1][name].shape[1:]:
                raise ConfigError(
                    f"samples with {name!r} of shapes {list(both[0][name].shape[1:])} and "
                    f"{list(both[1][name].shape[1:])} cannot be kept together; give all samples "
                    "one size, or choose another tune.method"
                )
        self.samples = concat(both)

    def _forget(self) -> None:
        if len(self) <= self.limit or self.samples is None:
            return
        best = torch.argsort(self.rewards, descending=True, stable=True)[: self.limit]
        best = best.sort().values
        self.samples, self.rewards = self.samples.select(best), self.rewards[best]
        self.known = [self.known[i] for i in best.tolist()]

    def weights(self, alpha: float, least: int) -> Tensor:
        """Probabilities ``q`` ``[n]``, float64, at ``alpha`` or what ``least`` makes of it."""
        return torch.softmax(self.rewards / temperature(self.rewards, alpha, least), 0)

    def draw(self, weights: Tensor, u: Tensor, ids: Tensor) -> State:
        """Samples in proportion to ``weights``, by one uniform number (systematic resampling).

        Args:
            weights: Probabilities ``[n]``.
            u: The number, in ``[0, 1)``.
            ids: Ids ``[b]`` that the samples get.
        """
        assert self.samples is not None
        b = len(ids)
        points = (torch.arange(b, dtype=torch.float64) + u.cpu().double()) / b
        index = torch.searchsorted(weights.cumsum(0), points).clamp(max=len(self) - 1)
        chosen = self.samples.select(index)
        return State(chosen.values, chosen.masks, ids.cpu()).to(ids.device)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        if self.samples is None:
            return {}
        return {
            "values": dict(self.samples.values),
            "masks": dict(self.samples.masks),
            "rewards": self.rewards,
            "known": torch.tensor(self.known, dtype=torch.int64),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; from the start if ``state`` is empty.

        Raises:
            CheckpointError: It does not hold a memory.
        """
        if not state:
            self.samples, self.rewards, self.known = None, self.rewards[:0], []
            return
        try:
            known, rewards = state["known"].tolist(), state["rewards"]
            samples = State(state["values"], state["masks"], torch.zeros(len(known)).long())
        except (KeyError, AttributeError, TypeError) as error:
            raise CheckpointError(
                f"the checkpoint holds no memory of samples ({error}); give another output folder"
            ) from error
        self.samples, self.rewards, self.known = samples, rewards, known


def temperature(rewards: Tensor, alpha: float, least: int) -> float:
    """The lowest temperature from ``alpha`` on at which so many of the rewards count, or all do.

    Args:
        rewards: Rewards ``[n]``, float64.
        alpha: What is wanted.
        least: Effective number of samples.
    """
    goal = min(least, 0.9 * len(rewards))

    def enough(t: float) -> bool:
        w = torch.softmax(rewards / t, 0)
        return float(1 / w.square().sum()) >= goal

    if enough(alpha):
        return alpha
    low, high = math.log(alpha), math.log(alpha) + 1
    while not enough(math.exp(high)):
        low, high = high, high + 1
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(math.exp(middle)) else (middle, high)
    return math.exp(high)


def replay_losses(
    task: Task,
    tuned: Tuned,
    memory: Memory,
    template: State,
    reward: RewardFunction,
    seed: int,
    key: Key,
) -> tuple[dict[str, Tensor], Rollout, dict[str, Tensor]]:
    """The task's own losses ``[b]`` on samples of the memory, the fresh chains, and what to log.

    Args:
        task: Whose losses.
        tuned: What is tuned; one in ``refresh`` samples of the batch is drawn anew.
        memory: What was found; it keeps the new ones.
        template: Shapes, masks and ids.
        reward: Of finished samples.
        seed: Of the chains.
        key: Chooses what is replayed, and the noise of the losses.

    Raises:
        RewardError: No fresh sample has a reward.
    """
    config, b = tuned.config, template.batch_size
    few = template.select(torch.arange(-(-b // config.refresh), device=template.device))
    rollout = roll(tuned.sampler, tuned.denoiser, few, reward, seed)
    spaces = {name: part.space for name, part in tuned.sampler.process.parts.items()}
    ends = rollout.final
    new = memory.add(ends, names_of(task, ends), rollout.rewards, rollout.scored, spaces)
    weights = memory.weights(config.alpha, config.effective)
    one = Key(key.seed, key.ids[:1], step=key.step).at(stream="replay")
    found: dict[str, Tensor] = {}
    for k in range(config.repeats):
        u = repeat(one, k).uniform(1, torch.float64)[0, 0]
        clean = memory.draw(weights, u, template.ids)
        for name, loss in task.losses(tuned.denoiser, clean, repeat(key, k)).items():
            part = loss / config.repeats
            found[name] = found[name] + part if name in found else part
    notes = {
        "found": torch.tensor(float(len(memory))),
        "fresh": torch.tensor(new / few.batch_size),
        "effective": 1 / weights.square().sum(),
    }
    return found, rollout, notes


def names_of(task: Task, ends: State) -> list[int]:
    """A number for each sample, the same for equal ones, in every process."""
    keys: list[Hashable | None] = [
        None if item is None else task.item_key(item) for item in task.decode(ends)[0]
    ]
    found = []
    for i, key in enumerate(keys):
        told = _bytes(key)
        if told is None:  # nobody knows what equal samples share: the values themselves
            told = b"".join(x[i].cpu().numpy().tobytes() for x in ends.values.values())
        found.append(int.from_bytes(blake2b(told, digest_size=8).digest(), "big", signed=True))
    return found


def _bytes(key: Hashable | None) -> bytes | None:
    """A key as bytes that do not depend on the process; None for None."""
    if key is None:
        return None
    if isinstance(key, frozenset):
        return b"{" + b",".join(sorted(_bytes(part) or b"" for part in key)) + b"}"
    if isinstance(key, tuple):
        return b"(" + b",".join(_bytes(part) or b"" for part in key) + b")"
    return repr(key).encode()


def _everyone(batch: Any) -> list[Any]:
    """``batch`` of every process."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [batch]
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, batch)
    return found
