r"""What a tuning reports of its samples beside the reward, and when it stops.

A reward can always be raised by forgetting everything else. Each iteration therefore also logs, of
the samples it has drawn anyway,

``distinct``
    the share of a batch's samples that are different from each other;
``entropy``
    the mean over tokens of the entropy of their classes within the batch, nats:
    :math:`-\frac1n \sum_i \sum_v f_{iv} \log f_{iv}` with :math:`f_{iv}` the share of samples whose
    token ``i`` is ``v``. It depends on the batch (by about :math:`(K - 1) / 2b` too low), and is
    compared with itself;
``distance``
    the divergence of the chains from the base model's, nats: of every visited step in closed form
    and summed, or estimated without bias from a few of its steps, or from the log-ratio of the
    paths. By the data processing inequality it bounds the divergence of the finished samples;
``novelty``
    the share of samples that are no training example, if it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from graphdiff.core.checks import classes_of
from graphdiff.core.errors import ConfigError, TrainingError
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.core.value import repeat
from graphdiff.finetune.config import TuneConfig
from graphdiff.finetune.rollout import Rollout, Tuned, divergence, kernels_at, pick
from graphdiff.task import Data, Task

__all__ = ["check", "diversity", "estimated_distance", "novelty", "require_tokens", "training_keys"]

PICKED = 2
"""Steps of each chain that a distance is estimated from, where no loss knows it: four calls."""
CHUNK = 512


def diversity(process: Product, ends: State) -> dict[str, Tensor]:
    """``distinct`` and ``entropy`` of finished samples, scalars; nothing of continuous ones."""
    if any(classes_of(part) is None for part in process.parts.values()):
        return {}
    rows, tokens, total = [], 0.0, 0.0
    for name, part in process.parts.items():
        x, mask = ends[name], ends.mask(name)
        flat = part.space.gather(x)
        real = part.space.gather(part.space.apply_mask(torch.ones_like(x), mask))
        rows.append(torch.where(real > 0, flat, -1))
        hot = torch.nn.functional.one_hot(flat, classes_of(part) or 0) * real.unsqueeze(-1)
        count = hot.sum(0).double()
        n = count.sum(-1, keepdim=True).clamp(min=1)
        entropy = -torch.special.xlogy(count / n, count / n).sum(-1)
        # A token counts as often as it is there: few graphs have a last node.
        total += float((entropy * n.squeeze(-1) * (count.sum(-1) > 0)).sum())
        tokens += float(count.sum())
    share = len(torch.unique(torch.cat(rows, 1), dim=0)) / ends.batch_size
    return {"distinct": torch.tensor(share), "entropy": torch.tensor(total / max(tokens, 1.0))}


def estimated_distance(tuned: Tuned, rollout: Rollout, key: Key) -> Tensor:
    """Divergence ``[b]`` of the present model's chains from the base model's, without bias."""
    chosen = pick(rollout.steps, PICKED, repeat(key, 2))
    total: Tensor = torch.zeros(rollout.final.batch_size, device=rollout.final.device)
    with torch.no_grad():
        for i in chosen:
            state = rollout.states[i]
            mine = kernels_at(tuned.sampler, tuned.denoiser, state, i, rollout.seed)
            theirs = kernels_at(tuned.sampler, tuned.reference, state, i, rollout.seed)
            total = total + divergence(mine, theirs)
    return total * (rollout.steps / len(chosen))


def check(config: TuneConfig, notes: Mapping[str, Tensor], batch: int) -> None:
    """Stop a tuning that has collapsed or has gone too far.

    Args:
        config: Floors and ceiling.
        notes: What is known of a batch.
        batch: Its size; a handful of samples proves nothing.

    Raises:
        TrainingError: What happened, and what to do.
    """
    again = "take the last checkpoint, or start again with a larger tune.alpha or a lower train.lr"
    share, entropy = notes.get("distinct"), notes.get("entropy")
    if share is not None and batch >= 8 and float(share) < config.min_distinct:
        raise TrainingError(
            f"only {float(share):.0%} of the samples of a batch are different (tune.min_distinct "
            f"{config.min_distinct:g}): the tuning has collapsed; {again}"
        )
    if entropy is not None and batch >= 8 and float(entropy) < config.min_entropy:
        raise TrainingError(
            f"the tokens of a batch have {float(entropy):.3g} nats of entropy on average "
            f"(tune.min_entropy {config.min_entropy:g}): the tuning has collapsed; {again}"
        )
    far = notes.get("distance")
    if config.max_kl is not None and far is not None and float(far) > config.max_kl:
        raise TrainingError(
            f"the chains are {float(far):.2f} nats from the base model (tune.max_kl "
            f"{config.max_kl:g}); take the last checkpoint, or start again with a larger tune.alpha"
        )


def require_tokens(config: TuneConfig, process: Product) -> None:
    """Check that a floor of the entropy can be watched.

    Raises:
        ConfigError: A component is continuous.
    """
    for name, part in process.parts.items():
        if config.min_entropy and classes_of(part) is None:
            raise ConfigError(
                f"tune.min_entropy is {config.min_entropy:g}, but component {name!r} is "
                "continuous, and only the entropy of classes is measured; set it to 0"
            )


def training_keys(task: Task, data: Data) -> frozenset[Hashable]:
    """What the examples of a training set are known by; it decodes all of them.

    Raises:
        ConfigError: Items of the task have no key.
    """
    found: set[Hashable] = set()
    for start in range(0, len(data), CHUNK):
        index = torch.arange(start, min(start + CHUNK, len(data)))
        found.update(_keys(task.item_key, task.decode(data.batch(index))[0]))
    if not found:
        raise ConfigError(
            f"samples of {task.kind!r} cannot be told from training examples (they have no key); "
            "set tune.novelty to false"
        )
    return frozenset(found)


def novelty(task: Task, seen: frozenset[Hashable], ends: State) -> Tensor:
    """Share of samples that are no training example, of those that have a key; scalar."""
    keys = _keys(task.item_key, task.decode(ends)[0])
    fresh = sum(key not in seen for key in keys)
    return torch.tensor(fresh / max(len(keys), 1))


def _keys(key: Callable[[Any], Hashable | None], items: Sequence[Any]) -> list[Hashable]:
    found = [None if item is None else key(item) for item in items]
    return [k for k in found if k is not None]
