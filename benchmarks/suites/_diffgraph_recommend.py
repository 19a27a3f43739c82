"""Rows of recommendation for the suite ``diffgraph``.

Every row is measured twice on the published test pairs: with bought items masked (the published
protocol, the headline) and with all seen items masked (``unseen_``). In these data a test item
never occurs in any relation of its user, so a method that does not recommend what was seen gains by
the first protocol for a reason of the data; a difference counts where it holds in both.

Intervals and paired tests are over users, of means over seeds; ``seeds_low`` to ``seeds_high`` is
the interval of the mean over seeds.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from _kept import extras, kept

Json = dict[str, Any]

SEEDS, ABLATED, PUBLISHED_SEEDS, EPOCHS, EVERY = 5, 3, 3, 90, 3
WIDTH = 1024
VARIANTS = ("no-loss", "sum", "union")
"""Parts of the published method, which show what its diffusion adds."""
ABLATIONS = ("diffusion, untrained", "one step, no noise", "diffusion, perceptron alone")
EXTRA = (*VARIANTS, *ABLATIONS, "epoch by validation")
"""What no claim rests on."""
RIDGES = {"retail-rocket": (50.0, 100.0, 200.0, 400.0), "tmall": (200.0, 500.0)}
BASELINE = {"retail-rocket": "walk, 3 steps", "tmall": "item-kNN"}
REPORTED = {"retail-rocket": (0.0620, 0.0367), "tmall": (0.0589, 0.0274)}
"""Recall@20 and NDCG@20 of DiffGraph in its paper; Tmall with page views, absent here."""
PARITY = (0.057, 0.063)


def rows(quick: bool, folder: Path) -> list[Json]:
    """All rows, kept in ``folder``; ``quick`` has a made-up data set and few steps."""
    found: list[Json] = []
    for name in ("made-up",) if quick else tuple(BASELINE):
        base = _kept_rows(folder, f"{name}-baselines", lambda n=name: _baselines(n))
        found += [*base, *_diffusion(name, folder, quick)]
        if name != "tmall":
            seeds = 1 if quick else PUBLISHED_SEEDS
            for variant in ("full", *(VARIANTS if extras() else ())):
                count = seeds if variant == "full" else 1
                found += _published(name, variant, count, folder, quick)
    return [_with_tests(row, found) for row in found]


def checks(rows: list[Json], quick: bool) -> list[Json]:
    """Requirements; a missed one is reported as missed."""
    if quick:
        return []
    by = {(row["data"], row["method"]): row for row in rows}
    parity = by["retail-rocket", "DiffGraph, best on test"]["recall"]
    found = [_check("Retail, published method, recall@20 (best on test, as its authors choose)",
                    parity, ".060 +- .003", PARITY[0] <= parity <= PARITY[1])]  # fmt: skip
    for name, baseline in BASELINE.items():
        for method in ("diffusion", "diffusion and source"):
            row, base = by[name, method], by[name, baseline]
            for score in ("recall", "ndcg", "unseen_recall", "unseen_ndcg"):
                good = row[score] > base[score] and row[f"{score}_over_low"] > 0
                found.append(_check(f"{name}: {method} over {baseline}, {score}, interval above 0",
                                    row[score], f"> {base[score]:.4f}", good))  # fmt: skip
    calls = by["retail-rocket", "diffusion"]["calls"]
    found.append(_check("network calls of the diffusion", calls, "<= 8", 1 < calls <= 8))
    return found


def _check(name: str, value: float, wanted: str, passed: bool) -> Json:
    return {"name": name, "value": round(float(value), 5), "wanted": wanted, "passed": bool(passed)}


def _kept_rows(folder: Path, name: str, make: Callable[[], list[Json]]) -> list[Json]:
    made = kept(folder, name, lambda: {"rows": make()})
    return [{**row, "commit": made["commit"]} for row in made["rows"]]


# -- data and measuring -------------------------------------------------------------------------


def data_of(name: str) -> Any:
    """A data set; ``made-up`` has 60 users in three groups, each with items of its own."""
    from graphdiff.data.behaviours import Behaviours, load_behaviours

    if name != "made-up":
        return load_behaviours(name)
    from scipy import sparse

    draws = np.random.default_rng(0)
    users, items = 60, 90
    likes = np.where(np.arange(users)[:, None] % 3 == np.arange(items)[None] % 3, 0.35, 0.01)
    viewed = draws.random((users, items)) < likes
    bought = viewed & (draws.random((users, items)) < 0.6)
    test = np.array([[u, int(draws.choice(np.flatnonzero(bought[u])))] for u in range(users)])
    viewed[test[:, 0], test[:, 1]] = bought[test[:, 0], test[:, 1]] = False
    relations = {"view": sparse.csr_matrix(viewed * 1), "buy": sparse.csr_matrix(bought * 1)}
    return Behaviours.of(relations, "buy", test)


def _measure(seen: list[Any], unseen: list[Any]) -> Json:
    """Scores of each user, means over seeds, and of each seed."""
    row: Json = {}
    for prefix, ranks in (("", seen), ("unseen_", unseen)):
        for score in ("recall", "ndcg"):
            each = np.array([getattr(found, score)(20) for found in ranks])
            row[f"{prefix}{score}"] = float(each.mean())
            row[f"{prefix}{score}_users"] = np.round(each.mean(0), 6).tolist()
            row[f"{prefix}{score}_seeds"] = each.mean(1).tolist()
    return row


def _row(name: str, method: str, seen: list[Any], unseen: list[Any], **more: Any) -> Json:
    row = {
        "data": name, "method": method, "seeds": len(seen), "calls": 0, "updates": 0,
        "ridge": None, "mix": None, "validation": None, **_measure(seen, unseen), **more,
    }  # fmt: skip
    text = f"{name}, {method}: {row['recall']:.4f}/{row['ndcg']:.4f}"
    print(f"{text}, unseen {row['unseen_recall']:.4f}/{row['unseen_ndcg']:.4f}", file=sys.stderr,
          flush=True)  # fmt: skip
    return row


def _with_tests(row: Json, found: list[Json]) -> Json:
    """The row with intervals and differences to the baseline of its data; users are left out."""
    from graphdiff.graph.evaluate import paired, summary

    name = BASELINE.get(row["data"], "walk, 3 steps")
    base = next(r for r in found if (r["data"], r["method"]) == (row["data"], name))
    made = {k: v for k, v in row.items() if not k.endswith(("_users", "_seeds", "commit"))}
    made["users"] = len(row["recall_users"])
    for score in ("recall", "ndcg", "unseen_recall", "unseen_ndcg"):
        users = summary(row[f"{score}_users"])
        made |= {f"{score}_low": users.low, f"{score}_high": users.high}
        between = summary(row[f"{score}_seeds"])
        several = between.n > 1
        made[f"{score}_seeds_low"] = between.low if several else None
        made[f"{score}_seeds_high"] = between.high if several else None
        gain = paired(row[f"{score}_users"], base[f"{score}_users"])
        made |= {f"{score}_over": gain.difference, f"{score}_over_low": gain.low,
                 f"{score}_over_high": gain.high, f"{score}_p": gain.p}  # fmt: skip
    made["over"] = name
    made["commit"] = row["commit"]
    return made


# -- rows ---------------------------------------------------------------------------------------


def _baselines(name: str) -> list[Json]:
    from graphdiff.graph.diffgraph.ranking import rank
    from graphdiff.graph.diffgraph.walks import ItemKNN, Popularity, Walk

    data = data_of(name)
    buys = {data.target: 1.0}
    methods = {
        "popularity": Popularity(data), "item-kNN": ItemKNN(data),
        "item-kNN, buys": ItemKNN(data, buys), "walk, 3 steps": Walk(data),
        "walk, 5 steps": Walk(data, 5), "walk, 3 steps, buys": Walk(data, 3, buys),
    }  # fmt: skip
    found = []
    for method, scorer in methods.items():
        began = time.process_time()
        seen = rank(scorer, data.test, data.edges[data.target])
        unseen = rank(scorer, data.test, data.seen)
        seconds = time.process_time() - began
        found.append(_row(name, method, [seen], [unseen], cpu=seconds))
    return found


def _config(name: str, quick: bool) -> Any:
    from graphdiff.graph.diffgraph.choice import RecommenderConfig

    return RecommenderConfig(
        ridges=RIDGES.get(name, (20.0,)),
        width=16 if quick else WIDTH,
        train_steps=(0, 5) if quick else (0, 10, 20),
        users=2500,
        validated=1500,
        candidates=60 if quick else 500,
    )


def _diffusion(name: str, folder: Path, quick: bool) -> list[Json]:
    """The source, the diffusion, both, and ablations; all settings chosen on validation."""
    config = _config(name, quick)
    held = kept(folder, f"{name}-selection", lambda: _selection(name, config))
    alone = next(t for t in held["trials"] if t["mix"] == 1)
    both = next(t for t in held["trials"] if 0 < t["mix"] < 1)
    data = data_of(name)
    methods = _methods(name, config, alone, both)
    parts = functools.cache(lambda: _parts(data, config, alone["ridge"]))
    found = []
    for method, (how, seeds) in methods.items():
        make = lambda h=how, m=method, k=seeds: _drawn(  # noqa: E731
            name, data, m, h, 2 if quick and k > 1 else k, *parts()
        )
        found.append(kept(folder, f"{name}-diffusion-{method}", make))
    found[0]["validation"], found[0]["cpu"] = held["trials"][0]["mix"], held["cpu"]
    return found


def _selection(name: str, config: Any) -> Json:
    from graphdiff.graph.diffgraph.choice import select

    began = time.process_time()
    trials = [asdict(trial) for trial in select(data_of(name).hold_out(), config)]
    return {"trials": trials, "cpu": time.process_time() - began}


def _parts(data: Any, config: Any, ridge: float) -> tuple[Any, Any, Any]:
    """Latent space, users to train on, users of the test."""
    from graphdiff.graph.diffgraph.choice import latents, profile

    space = latents(data, config, ridge)
    users = np.unique(data.test[:, 0])
    shown = space.profile(users, data.edges[data.target], config.candidates)
    return space, profile(data, space, config), shown


def _methods(name: str, config: Any, alone: Json, both: Json) -> Json:
    """Settings and number of seeds by method."""
    from graphdiff.graph.diffgraph.settings import DenoiserConfig

    own = replace(config, ridges=(alone["ridge"],), train_steps=(alone["steps"],), mix=(1.0,))
    joint = replace(own, train_steps=(both["steps"],), mix=(both["mix"],))
    plain = DenoiserConfig.plain(hidden=config.denoiser.hidden, residual=True)
    loose = replace(config.denoiser, residual=False)
    found = {
        "source": (replace(own, train_steps=(0,), mix=(0.0,)), 1),
        "diffusion": (own, SEEDS),
        "diffusion and source": (joint, SEEDS),
        "diffusion, untrained": (replace(own, train_steps=(0,)), 1),
        "one step, no noise": (replace(own, denoiser=plain), ABLATED),
    }
    if name != "tmall":
        steps = (max(config.train_steps),)
        found["diffusion, perceptron alone"] = (
            replace(own, denoiser=loose, train_steps=steps), ABLATED,
        )  # fmt: skip
    return {k: v for k, v in found.items() if extras() or k not in ABLATIONS}


def _drawn(name: str, data: Any, method: str, how: Any, seeds: int, space: Any, of: Any,
           shown: Any) -> Json:  # fmt: skip
    from graphdiff.graph.diffgraph.choice import rank_joined
    from graphdiff.graph.diffgraph.recommend import Recommender

    ranks: tuple[list[Any], list[Any]] = ([], [])
    began, calls = time.process_time(), 0
    for seed in range(seeds):
        model = Recommender.trained(data, replace(how, seed=seed), space=space, of=of)
        scores, calls = model.scores(shown), model.network_calls
        for found, unseen in zip(ranks, (False, True), strict=True):
            found.append(rank_joined(data, shown, scores, data.test, unseen))
    return _row(
        name, method, *ranks, calls=calls, updates=how.train_steps[0], ridge=how.ridges[0],
        mix=how.mix[0], cpu=(time.process_time() - began) / seeds,
    )  # fmt: skip


def _published(name: str, variant: str, seeds: int, folder: Path, quick: bool) -> list[Json]:
    """The published method: the last epoch, the best on test, one chosen on validation."""
    data, every = data_of(name), 1 if quick else EVERY
    parts = [published_curve(name, variant, seed, folder, quick) for seed in range(seeds)]
    curves = [_ranks(data.test, part) for part in parts]
    best = [max(range(len(c)), key=lambda k, c=c: c[k][0].recall().mean()) for c in curves]
    choices = {"last epoch": [len(c) - 1 for c in curves], "best on test": best}
    if variant == "full" and extras():
        held = published_curve(name, variant, None, folder, quick)["recall"]
        choices["epoch by validation"] = [int(np.argmax(held))] * seeds
    label = "DiffGraph" if variant == "full" else f"DiffGraph, {variant}"
    found = []
    for how, places in choices.items():
        pairs = [c[k] for c, k in zip(curves, places, strict=True)]
        found.append(_row(
            name, f"{label}, {how}", [p[0] for p in pairs], [p[1] for p in pairs],
            calls=int(variant in ("full", "no-loss")),
            updates=round(float(np.mean([(k + 1) * every for k in places]))),
            cpu=float(np.mean([part["cpu"] for part in parts])),
            commit=parts[0]["commit"],
        ))  # fmt: skip
    return found


def published_curve(name: str, variant: str, seed: int | None, folder: Path, quick: bool) -> Json:
    """One training: places of the test items (20 and more are 20) after every third epoch.

    Without a seed: recall of held-out edges of a training without them, seed 0.
    """
    label = f"{name}-published-{variant}-{'validation' if seed is None else seed}"
    return kept(folder, label, lambda: _curve(name, variant, seed, quick))


def _curve(name: str, variant: str, seed: int | None, quick: bool) -> Json:
    from graphdiff.graph.diffgraph.published import Published, PublishedConfig
    from graphdiff.graph.diffgraph.ranking import rank

    data = data_of(name) if seed is not None else data_of(name).hold_out()
    config = PublishedConfig(
        variant, epochs=2 if quick else EPOCHS, batch=64 if quick else 2048, seed=seed or 0
    )
    made: Json = {"recall": []} if seed is None else {"places": [], "unseen": []}
    began, every = time.process_time(), 1 if quick else EVERY

    def after(epoch: int, model: Any) -> None:
        if epoch % every:
            return
        scorer, bought = model.scorer(), data.edges[data.target]
        if seed is None:
            made["recall"].append(float(rank(scorer, data.valid, bought).recall().mean()))
            return
        for key, mask in (("places", bought), ("unseen", data.seen)):
            made[key].append(np.minimum(rank(scorer, data.test, mask).places, 20).tolist())

    Published(data, config).fit(after)
    return {**made, "cpu": time.process_time() - began}


def _ranks(test: Any, part: Json) -> list[tuple[Any, Any]]:
    from graphdiff.graph.diffgraph.ranking import Ranks

    users = test[np.argsort(test[:, 0], kind="stable"), 0]
    made = zip(part["places"], part["unseen"], strict=True)
    return [(Ranks(users, np.array(a)), Ranks(users, np.array(b))) for a, b in made]
