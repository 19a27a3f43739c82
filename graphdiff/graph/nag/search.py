r"""Search by generating: DiffusionNAG as a transfer, and as Bayesian optimisation.

A generator that learnt the space without measurements is steered by what is known, and only the
most promising of what it makes is measured (An et al., ICLR 2024, arXiv 2305.16943):

1. a surrogate is fitted to the answers so far (:class:`GaussianProcess`), about the mean that
   earlier tasks suggest, if there is one (:class:`Experience`);
2. architectures are generated under the guidance of its acquisition, by any method of
   :class:`graphdiff.guide.Guide`; they join a pool of all that was generated, and from the best of
   the pool the acquisition is climbed, neighbour by neighbour (which costs no evaluation);
3. the best of the pool are asked for.

*Transfer* is the same without the first step: the mean of earlier tasks alone ranks what is made.
The acquisition is the expected improvement :math:`E[\max(y - y_{best}, 0)]`; with a second number
to keep low it is the area that the pair :math:`(\mu + \sigma, b)` would add to what the front
dominates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphdiff.core.errors import ArgumentError
from graphdiff.core.state import State
from graphdiff.graph.nag.build import decode
from graphdiff.graph.nag.pareto import gains
from graphdiff.graph.nag.problem import History, Problem, names
from graphdiff.graph.nag.space import Architectures
from graphdiff.graph.nag.surrogate import (
    Array,
    Experience,
    GaussianProcess,
    Views,
    expected_improvement,
)

__all__ = ["Acquisition", "Generator", "nag_search"]

Score = Callable[[Views, Architectures], Array]


@dataclass(frozen=True)
class Acquisition:
    """What a sample is worth asking for: a reward of guidance.

    Attributes:
        problem: The search; members that break a limit, and samples that are no members, are
            worth less than any that keeps them.
        score: Scores ``[m]`` of the views of architectures.
    """

    problem: Problem
    score: Score
    name: str = "acquisition"
    differentiable: bool = False

    def __call__(self, state: State) -> Tensor:
        """Scores ``[b]``, float64."""
        archs = decode(self.problem.space, state)
        valid = self.problem.space.valid(archs)
        good = self.problem.allowed(archs)
        found = np.full(len(archs), -1e9)
        found[valid] = -1e6
        if good.any():
            kept = archs[good]
            found[good] = self.score(self.problem.space.features(kept), kept)
        return torch.from_numpy(found).to(state.device)


@dataclass
class Generator:
    """What makes architectures: a trained model, steered by a reward.

    Attributes:
        model: A :class:`graphdiff.model.Model` of the kind ``nag``.
        method: Of guidance.
        particles: Of each sample.
        steps: Of the sampler; None for those of the model.
        made: Samples so far.
        seconds: What they took.
    """

    model: Any
    method: str = "svdd"
    particles: int = 4
    steps: int | None = None
    made: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        if getattr(self.model.task, "kind", "") != "nag":
            raise ArgumentError(
                f"model {self.model.name!r} is of kind {self.model.task.kind!r}, but a search "
                "needs a generator of architectures (kind 'nag'), as nag-nb201"
            )

    def __call__(self, n: int, seed: int, reward: Acquisition | None = None) -> Architectures:
        """``n`` samples, valid or not, steered by ``reward`` if there is one."""
        from graphdiff.guide import Guide

        guide = None
        if reward is not None:
            sharp = 0.0 if self.method == "svdd" else 1.0
            guide = Guide(reward, self.method, self.particles, sharp)  # type: ignore[arg-type]
        options = {} if self.steps is None else {"steps": self.steps}
        found = self.model.samples(n, seed=seed, guide=guide, **options)
        self.made += n
        self.seconds += float(found.info["seconds"])
        raw: Architectures = found.raw
        return raw


@dataclass
class _Pool:
    """What was generated, allowed, and not asked yet, with its views."""

    problem: Problem
    archs: Architectures | None = None
    views: Views = field(default_factory=list)
    prior: Array = field(default_factory=lambda: np.zeros(0))
    known: set[bytes] = field(default_factory=set)

    def add(self, archs: Architectures, experience: Experience | None) -> None:
        fresh: dict[bytes, int] = {}
        good = self.problem.allowed(archs)
        for i, name in enumerate(names(archs)):
            if good[i] and name not in self.known:
                fresh.setdefault(name, i)
        if not fresh:
            return
        self.known |= set(fresh)
        new = archs[np.array(list(fresh.values()))]
        views = self.problem.space.features(new)
        prior = np.zeros(len(new)) if experience is None else experience(views)
        if self.archs is None:
            self.archs, self.views, self.prior = new, views, prior
            return
        self.archs = Architectures.join([self.archs, new])
        self.views = [np.concatenate(pair) for pair in zip(self.views, views, strict=True)]
        self.prior = np.concatenate([self.prior, prior])


def nag_search(
    history: History,
    rng: np.random.Generator,
    generator: Generator,
    *,
    experience: Experience | None = None,
    refit: bool = True,
    first: int | None = None,
    pool: int = 512,
    per_round: int = 16,
    climb: int = 6,
    batch: int = 1,
) -> None:
    """Generate under guidance, rank, ask, and again until the budget is spent.

    Args:
        history: Of the search; it is filled.
        rng: Of seeds and first questions.
        generator: Makes the architectures.
        experience: Prior mean of earlier tasks.
        refit: Whether answers are learnt from; without, the prior mean alone decides (transfer).
        first: Questions before the first fit; 3 with experience, 4 without.
        pool: Samples that are made without guidance at the start.
        per_round: Guided samples of each round.
        climb: Steps of a local search of the acquisition in each round, all of whose neighbours
            join the pool; 0 leaves the pool to the generator alone.
        batch: Questions of each round.

    Raises:
        ArgumentError: There is no experience to transfer, or nothing that is generated is allowed.
    """
    if experience is None and not refit:
        raise ArgumentError("a transfer needs experience of earlier tasks; give it, or refit")
    problem, made = history.problem, _Pool(history.problem)
    made.add(generator(pool, _seed(rng)), experience)
    start = first if first is not None else 3 if experience is not None else 4
    if made.archs is None:
        made.add(problem.draw(start, rng), experience)
    if experience is not None:
        prior_reward = Acquisition(problem, lambda views, archs: experience(views))
        made.add(generator(4 * per_round, _seed(rng), prior_reward), experience)
    assert made.archs is not None
    if not refit:
        _ask_best(history, made, made.prior, history.budget)
        return
    order = np.argsort(-made.prior) if experience is not None else rng.permutation(len(made.archs))
    history.ask(made.archs[order[: min(start, history.budget)]])
    while not history.over:
        score = _fitted(history, experience)
        made.add(generator(per_round, _seed(rng), Acquisition(problem, score)), experience)
        _climb(history, made, score, climb, experience)
        before = len(history)
        _ask_best(history, made, score(made.views, made.archs), batch)
        if len(history) == before:  # all that was generated is known
            made.add(problem.draw(per_round, rng), experience)
            _ask_best(history, made, score(made.views, made.archs), batch)
        if len(history) == before:
            return


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 62))


def _ask_best(history: History, made: _Pool, score: Array, count: int) -> None:
    assert made.archs is not None
    left = np.flatnonzero(~history.asked(made.archs))
    best = left[np.argsort(-score[left], kind="stable")][:count]
    if len(best):
        history.ask(made.archs[best])


def _climb(
    history: History, made: _Pool, score: Score, steps: int, experience: Experience | None
) -> None:
    """Add the neighbours of the best of the pool, until it is its own best neighbour."""
    last = -1
    for _ in range(steps):
        assert made.archs is not None
        worth = np.where(history.asked(made.archs), -np.inf, score(made.views, made.archs))
        best = int(np.argmax(worth))
        if best == last:
            return
        last = best
        made.add(history.problem.space.neighbours(made.archs[best]), experience)


def _fitted(history: History, experience: Experience | None) -> Score:
    """Acquisition of a surrogate of all answers."""
    problem = history.problem
    known = history.archs
    views = problem.space.features(known)
    prior = None if experience is None else experience(views)
    values = np.array(history.values)
    # On a front the bad ones count as well: they may be cheap.
    process = GaussianProcess(views, values, prior, lift=problem.second is None)
    second = problem.second

    def score(asked: Views, archs: Architectures) -> Array:
        mean, std = process.predict(asked, None if experience is None else experience(asked))
        if second is None:
            return expected_improvement(mean, std, float(values.max()))
        low = np.array(history.second)
        reference = (-float(values.min()), float(low.max()))
        points = np.stack([-values, low], 1)
        wished: NDArray[np.float64] = np.stack([-(mean + std), second(archs)], 1)
        return gains(points, wished, reference)

    return score
