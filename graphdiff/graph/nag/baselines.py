r"""Searches to compare with: random, regularised evolution, local search, BANANAS.

**Random search** asks for random members.

**Regularised evolution** (Real et al., 2019, arXiv 1802.01548): a population in order of age; the
best of a random few is mutated, the child enters, the oldest leaves.

**Local search** (White et al., 2021, arXiv 2005.02960): from the best of a few random members, all
neighbours are asked in random order until one is better; at a local optimum it starts again.

**BANANAS** (White et al., 2021, arXiv 1910.11858): an ensemble of networks on path features,
trained anew on all answers; mutations of the best architectures are ranked by independent Thompson
sampling, and the ten best are asked. The networks here are two-layer perceptrons of the views of
the space, five of them, trained together as one batched product; the published ones are deeper.

**NSGA-II** (Deb et al., 2002, IEEE Trans. Evol. Comput. 6:182) for two objectives: rank by
dominance, then by crowding, tournaments of two, mutation.

Every search may check the limits of the problem, which cost nothing: a child that breaks one is
drawn again.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray

from graphdiff.graph.nag.pareto import crowding, ranks
from graphdiff.graph.nag.problem import History
from graphdiff.graph.nag.space import Architectures

__all__ = ["bananas", "evolution", "local_search", "nsga2", "random_search"]

TRIES = 100


def random_search(history: History, rng: np.random.Generator) -> None:
    """Ask for random members."""
    while not history.over:
        history.ask(history.problem.draw(min(64, history.budget - len(history)), rng))


def child_of(history: History, parent: Architectures, rng: np.random.Generator) -> Architectures:
    """A mutation that keeps the limits; a random member if none is found."""
    for _ in range(TRIES):
        child = history.problem.space.mutate(parent, rng)
        if history.problem.allowed(child)[0] and not history.asked(child)[0]:
            return child
        parent = child if history.problem.allowed(child)[0] else parent
    return history.problem.draw(1, rng)


def evolution(
    history: History, rng: np.random.Generator, *, population: int = 50, sample: int = 10
) -> None:
    """Regularised evolution."""
    first = history.problem.draw(min(population, history.budget), rng)
    living = deque(zip(first, history.ask(first), strict=False))
    while not history.over:
        few = [living[i] for i in rng.choice(len(living), min(sample, len(living)), False)]
        child = child_of(history, max(few, key=lambda pair: pair[1])[0], rng)
        living.append((child, history.ask(child)[0]))
        living.popleft()


def local_search(history: History, rng: np.random.Generator, *, start: int = 10) -> None:
    """Climb to a local optimum, then start again."""
    problem = history.problem
    while not history.over:
        first = problem.draw(min(start, history.budget - len(history)), rng)
        values = history.ask(first)
        here, value = first[int(np.argmax(values))], max(values)
        climbing = True
        while climbing and not history.over:
            climbing = False
            near = problem.space.neighbours(here)
            near = near[problem.allowed(near)]
            for i in rng.permutation(len(near)):
                found = history.ask(near[int(i)])
                if not found:
                    return
                if found[0] > value:
                    here, value, climbing = near[int(i)], found[0], True
                    break


def bananas(
    history: History, rng: np.random.Generator, *, start: int = 10, batch: int = 10
) -> None:
    """Rank mutations of the best by an ensemble, ask for the first ten, and again."""
    problem = history.problem
    history.ask(problem.draw(min(start, history.budget), rng))
    while not history.over:
        known, values = history.archs, np.array(history.values)
        parents = known[np.argsort(-values)[:10]]
        pool = [
            child_of(history, parents[int(rng.integers(len(parents)))], rng) for _ in range(100)
        ]
        found = Architectures.join(pool)
        _, first = np.unique(found.ops, axis=0, return_index=True)
        found = found[np.sort(first)]
        mean, std = _ensemble(_flat(history, known), values, _flat(history, found), rng)
        drawn = mean + std * rng.standard_normal(len(mean))
        history.ask(found[np.argsort(-drawn)[:batch]])


def _flat(history: History, archs: Architectures) -> NDArray[np.float64]:
    return np.concatenate(history.problem.space.features(archs), 1)


def _ensemble(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    asked: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    members: int = 5,
    width: int = 64,
    steps: int = 150,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation over members of an ensemble, each from an initialisation of its own."""
    scale = float(y.std()) or 1.0
    left = torch.from_numpy(x).float().expand(members, -1, -1)
    right = torch.from_numpy(asked).float().expand(members, -1, -1)
    goal = torch.from_numpy((y - y.mean()) / scale).float().expand(members, -1)
    sizes = [(x.shape[1], width), (width, width), (width, 1)]
    weights = [
        torch.from_numpy(rng.standard_normal((members, a, b)) * (2 / a) ** 0.5).float()
        for a, b in sizes
    ]
    biases = [torch.zeros(members, 1, b) for _, b in sizes]
    both = [w.requires_grad_() for w in (*weights, *biases)]

    def call(h: torch.Tensor) -> torch.Tensor:
        for k, (w, b) in enumerate(zip(weights, biases, strict=True)):
            h = h @ w + b
            h = torch.relu(h) if k < len(sizes) - 1 else h
        return h.squeeze(-1)

    optimizer = torch.optim.Adam(both, 0.01)
    for _ in range(steps):
        loss = (call(left) - goal).abs().mean()  # as published: the mean absolute error
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = call(right).double().numpy() * scale + y.mean()
    return found.mean(0), found.std(0)


def nsga2(history: History, rng: np.random.Generator, *, population: int = 20) -> None:
    """Evolution of a front: objective high, second number low."""
    history.ask(history.problem.draw(min(population, history.budget), rng))
    living = np.arange(len(history))
    while not history.over:
        points = np.stack([-np.array(history.values), np.array(history.second)], 1)[living]
        rank, space = ranks(points), crowding(points)
        for _ in range(min(population, history.budget - len(history))):
            a, b = rng.choice(len(living), 2, False)
            better = (rank[a], -space[a]) < (rank[b], -space[b])
            parent = history.archs[int(living[a if better else b])]
            history.ask(child_of(history, parent, rng))
        everyone = np.arange(len(history))
        points = np.stack([-np.array(history.values), np.array(history.second)], 1)
        order = np.lexsort((-crowding(points), ranks(points)))
        living = everyone[order[:population]]
