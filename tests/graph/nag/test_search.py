"""Surrogate, fronts, budgets, limits; every search on a problem whose optimum is known."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.nag import baselines
from graphdiff.graph.nag.pareto import crowding, front, gains, hypervolume, ranks
from graphdiff.graph.nag.problem import History, Limit, Problem, names, parse_limit
from graphdiff.graph.nag.search import Acquisition, Generator, nag_search
from graphdiff.graph.nag.space import Architectures
from graphdiff.graph.nag.spaces import DAG, NASBench201, NASBenchMacro
from graphdiff.graph.nag.surrogate import Experience, GaussianProcess, expected_improvement

SPACE = NASBenchMacro()


def worth(archs: Architectures) -> Any:
    """Smooth, with one optimum: 2 1 2 1 2 1 2 1."""
    want = np.array([2, 1] * 4)
    return -np.abs(archs.ops - want).sum(1).astype(float)


class Uniform:
    """A generator that knows nothing, and an acquisition it ignores: random members."""

    made, seconds = 0, 0.0

    def __call__(self, n: int, seed: int, reward: Any = None) -> Architectures:
        found = SPACE.draw(n, np.random.default_rng(seed))
        if reward is not None:
            from graphdiff.graph.nag.build import encode

            score = reward(encode(SPACE, found, torch.arange(n), continuous=False))
            assert score.shape == (n,)
        return found


SEARCHES = {
    "random": baselines.random_search,
    "evolution": baselines.evolution,
    "local": baselines.local_search,
    "bananas": baselines.bananas,
    "nag": lambda h, rng: nag_search(h, rng, Uniform(), pool=64),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", SEARCHES)
def test_no_search_asks_twice_or_too_often(name: str) -> None:
    few = Limit("twos", lambda archs: (archs.ops == 2).sum(1).astype(float), "<", 5.0)
    history = History(Problem(SPACE, worth, (few,)), 60)
    SEARCHES[name](history, np.random.default_rng(0))
    assert len(history) == 60
    assert len(set(names(history.archs))) == 60
    assert few.holds(history.archs).all()
    assert SPACE.valid(history.archs).all()
    assert history.values == worth(history.archs).tolist()


@pytest.mark.parametrize("name", [n for n in SEARCHES if n != "random"])
def test_searches_beat_chance(name: str) -> None:
    """120 questions of 6,561; chance finds the optimum once in 55 runs."""
    found = []
    for seed in range(3):
        history = History(Problem(SPACE, worth), 120, goal=0.0)
        SEARCHES[name](history, np.random.default_rng(seed))
        found.append(max(history.values))
    rng = np.random.default_rng(9)
    chance = np.mean([worth(SPACE.draw(120, rng)).max() for _ in range(50)])
    assert np.mean(found) > chance + 0.5
    if name == "nag":
        assert found == [0.0] * 3


def test_a_search_ends_at_its_goal() -> None:
    history = History(Problem(SPACE, worth), 500, goal=0.0)
    baselines.local_search(history, np.random.default_rng(0))
    assert history.values[-1] == 0.0
    assert history.reached(0.0) == len(history) < 500
    assert history.reached(1.0) is None


def test_transfer_asks_what_experience_likes() -> None:
    archs = SPACE.draw(400, np.random.default_rng(1))
    told = Experience.of(SPACE, archs, worth(archs))
    history = History(Problem(SPACE, worth), 5)
    nag_search(history, np.random.default_rng(0), Uniform(), experience=told, refit=False, pool=512)  # type: ignore[arg-type]
    assert np.mean(history.values) > np.quantile(worth(archs), 0.98)
    with pytest.raises(ArgumentError, match="a transfer needs experience"):
        nag_search(history, np.random.default_rng(0), Uniform(), refit=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("lift", [True, False])
def test_the_process_is_a_gaussian_process(lift: bool) -> None:
    """Mean and deviation against the dense formulas, at the scale and noise it chose."""
    archs = SPACE.draw(40, np.random.default_rng(0))
    asked = SPACE.draw(30, np.random.default_rng(1))
    views, y = SPACE.features(archs), worth(archs)
    made = GaussianProcess(views, y, lift=lift)
    x, z = views[0], SPACE.features(asked)[0]
    lifted = np.maximum(y, np.median(y)) if lift else y
    distance = lambda a, b: ((a[:, None] - b[None]) ** 2).sum(-1)  # noqa: E731
    unit = distance(x, x).mean()
    best = None
    for scale, noise in product((0.5, 0.7, 1.0, 1.4, 2.0), (1e-3, 1e-2, 1e-1)):
        kernel = np.exp(-distance(x, x) / (2 * scale**2 * unit)) + noise * np.eye(40)
        s = lifted.std()
        t = (lifted - lifted.mean()) / s
        size = t @ np.linalg.solve(kernel, t) / 40
        likelihood = -20 * np.log(size) - 0.5 * np.linalg.slogdet(kernel)[1]
        cross = np.exp(-distance(z, x) / (2 * scale**2 * unit))
        mean = cross @ np.linalg.solve(kernel, t) * s + lifted.mean()
        left = 1 - (cross * np.linalg.solve(kernel, cross.T).T).sum(1)
        if best is None or likelihood > best[0]:
            best = (likelihood, mean, np.sqrt(size * np.maximum(left, 1e-9)) * s)
    assert best is not None
    mean, std = made.predict(SPACE.features(asked))
    np.testing.assert_allclose(mean, best[1], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(std, best[2], rtol=1e-4)


def test_a_prior_mean_that_is_right_is_kept_and_a_wrong_one_dropped() -> None:
    archs = SPACE.draw(20, np.random.default_rng(0))
    asked = SPACE.draw(30, np.random.default_rng(1))
    views, y = SPACE.features(archs), worth(archs)
    scaled = lambda a: (worth(a) - y.mean()) / y.std()  # noqa: E731
    made = GaussianProcess(views, y, scaled(archs), lift=False)
    mean, _ = made.predict(SPACE.features(asked), scaled(asked))
    np.testing.assert_allclose(mean, worth(asked), atol=1e-6)  # nothing is left to be learnt
    plain = GaussianProcess(views, y, lift=False).predict(SPACE.features(asked))[0]
    assert np.abs(plain - worth(asked)).max() > 0.1
    wrong = GaussianProcess(views, y, -5 * scaled(archs), lift=False)
    found, _ = wrong.predict(SPACE.features(asked), -5 * scaled(asked))
    np.testing.assert_allclose(found, plain)


def test_expected_improvement_is_the_integral() -> None:
    rng = np.random.default_rng(0)
    mean, std = np.array([0.0, 1.0, -1.0]), np.array([1.0, 0.5, 2.0])
    draws = mean + std * rng.standard_normal((400_000, 3))
    want = np.maximum(draws - 0.7, 0).mean(0)
    error = np.maximum(draws - 0.7, 0).std(0) / 400_000**0.5
    found = expected_improvement(mean, std, 0.7)
    assert (np.abs(found - want) < 4 * error).all()
    assert not (np.abs(1.05 * found - want) < 4 * error).all()


def test_fronts_against_brute_force() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = rng.integers(0, 8, (25, 2)).astype(float)
        beaten = [any((q <= p).all() and (q < p).any() for q in points) for p in points]
        edge = {tuple(p) for p, b in zip(points, beaten, strict=True) if not b}
        assert {tuple(p) for p in points[front(points)]} == edge
        assert {tuple(p) for p in points[ranks(points) == 0]} == edge
        assert ((ranks(points) == 0) == ~np.array(beaten)).all()
        cells = {(a, b) for a in range(9) for b in range(9)
                 if any(p[0] <= a and p[1] <= b for p in points)}  # fmt: skip
        assert hypervolume(points, (9.0, 9.0)) == len(cells)
        asked = rng.integers(0, 10, (10, 2)).astype(float)
        grown = [hypervolume(np.vstack([points, one]), (9.0, 9.0)) - len(cells) for one in asked]
        np.testing.assert_allclose(gains(points, asked, (9.0, 9.0)), grown, atol=1e-9)


def test_gains_where_nothing_is_known() -> None:
    nothing = np.zeros((0, 2))
    assert hypervolume(nothing, (1.0, 1.0)) == 0
    assert gains(nothing, np.array([[0.25, 0.5], [2.0, 0.0]]), (1.0, 1.0)).tolist() == [0.375, 0.0]


def test_the_ends_of_a_front_are_never_crowded() -> None:
    points = np.array([[0.0, 4.0], [1.0, 2.0], [2.0, 1.5], [4.0, 0.0]])
    found = crowding(points)
    assert np.isinf(found[[0, 3]]).all()
    np.testing.assert_allclose(found[1:3], [2 / 4 + 2.5 / 4, 3 / 4 + 2 / 4])


def test_a_front_is_searched() -> None:
    """Few twos against worth: both searches reach more area than chance."""
    twos = lambda archs: (archs.ops == 2).sum(1).astype(float)  # noqa: E731
    area = {}
    for name in ("nag", "nsga2", "random"):
        history = History(Problem(SPACE, worth, second=twos), 80)
        rng = np.random.default_rng(0)
        search = baselines.nsga2 if name == "nsga2" else SEARCHES[name]
        search(history, rng)
        assert len(history) == len(history.second) == 80
        points = np.stack([-np.array(history.values), np.array(history.second)], 1)
        area[name] = hypervolume(points, (16.0, 9.0))
    assert area["nag"] > area["random"]
    assert area["nsga2"] > area["random"]


def test_limits_are_read() -> None:
    known = {"latency:fpga": worth}

    def measure(name: str) -> Any:
        if name not in known:
            raise ArgumentError(f"unknown {name!r}")
        return known[name]

    found = parse_limit("latency:fpga<5ms", measure)
    assert (found.name, found.sense, found.bound) == ("latency:fpga", "<", 5.0)
    assert parse_limit("latency:fpga <= 0.01s", measure).bound == 10.0
    assert parse_limit("latency:fpga>-3", measure).bound == -3.0
    for text in ("latency:fpga", "latency:fpga<", "latency:fpga<five", "<5"):
        with pytest.raises(ArgumentError, match="expected NAME<BOUND"):
            parse_limit(text, measure)
    with pytest.raises(ArgumentError, match="unknown 'latency:toaster'"):
        parse_limit("latency:toaster<1", measure)


def test_what_cannot_be_searched_is_named() -> None:
    never = Limit("twos", lambda archs: (archs.ops == 2).sum(1).astype(float), ">", 8.0)
    with pytest.raises(ArgumentError, match="keep the limits twos; loosen them"):
        Problem(SPACE, worth, (never,)).draw(1, np.random.default_rng(0), most=1000)
    with pytest.raises(ArgumentError, match="budget must be at least 1"):
        History(Problem(SPACE, worth), 0)


def test_samples_that_are_no_members_are_worth_least() -> None:
    from graphdiff.core.state import State

    few = Limit("twos", lambda archs: (archs.ops == 2).sum(1).astype(float), "<", 1.0)
    reward = Acquisition(Problem(SPACE, worth, (few,)), lambda views, archs: worth(archs))
    ops = torch.tensor([[0] * 8, [2] * 8, [3] * 8])  # fine, over the limit, masked
    found = reward(State({"ops": ops}, {}, torch.arange(3)))
    assert found[0] > found[1] > found[2]


def test_the_shipped_generator_is_guided() -> None:
    """Samples under an acquisition are worth more than free ones; members, nearly all."""
    import graphdiff

    generator = Generator(graphdiff.load("nag-nb201"))
    space = NASBench201()
    convs = lambda archs: (archs.ops == 5).sum(1).astype(float)  # noqa: E731
    problem = Problem(space, convs)
    free = generator(48, 0)
    guided = generator(48, 0, Acquisition(problem, lambda views, archs: convs(archs)))
    assert space.valid(free).mean() > 0.95
    assert space.valid(guided).mean() > 0.95
    assert convs(guided).mean() > convs(free).mean() + 1
    assert generator.made == 96


def test_equal_names_need_equal_wires() -> None:
    space = DAG()
    archs = space.draw(2, np.random.default_rng(0))
    same = Architectures(archs.ops[[0, 0]], archs.wires)
    assert len(set(names(same))) == 2
