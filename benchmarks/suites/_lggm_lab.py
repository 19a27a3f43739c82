"""Trainings, samples and scores of the suite ``lggm``, each kept on disk under what determines it.

A result is a JSON file in the work folder, named by a hash of its inputs (configuration, graphs,
seed, version of the package); what is there is not computed again, so a suite that was stopped goes
on. ``GRAPHDIFF_BENCH_SECONDS`` stops new computations after so many seconds: the suite then reports
what there is and says how much is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from graphdiff import __version__
from graphdiff.config import apply_overrides, resolve_config, split_config
from graphdiff.graph.lggm import LggmTask
from graphdiff.graph.lggm_data import CorpusGraphs

METRICS = ("degree", "clustering", "orbit", "spectral")
KERNEL = "gaussian_tv"
T = {1: 12.706205, 2: 4.302653, 3: 3.182446, 4: 2.776445}  # 97.5 % quantiles of Student's t

Sample = dict[str, float]


@dataclass(frozen=True)
class Plan:
    """What is trained and measured.

    Attributes:
        domains: Domains that are held out, one at a time.
        seeds: Seeds of training, sampling and choice of graphs.
        overrides: Changes to the configuration ``lggm-plain``.
        tune_domains: Those of them that models are fine-tuned on.
        tune_steps: Steps of fine-tuning, and of training from scratch.
        few: Numbers of graphs to fine-tune on.
        samples: Graphs that are drawn from each trained model.
        boot: Bootstrap draws.
    """

    domains: tuple[str, ...] = (
        "road", "citation", "socfb", "eco", "air", "bio", "brain", "chem", "col", "copurchase",
        "email", "power", "rt", "soc", "tech", "web",
    )  # fmt: skip
    seeds: tuple[int, ...] = (0, 1, 2)
    overrides: tuple[str, ...] = ()
    tune_domains: tuple[str, ...] = ("road", "socfb")
    tune_steps: int = 150
    few: tuple[int, ...] = (10, 50, 200)
    samples: int = 128
    boot: int = 200


class Lab:
    """Computes what is not in the work folder yet.

    Attributes:
        missing: Computations that were left out because time had run out.
        kept: Results that earlier runs had left in the work folder.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.plan, self.folder = plan, folder
        self.missing = self.kept = 0
        limit = os.environ.get("GRAPHDIFF_BENCH_SECONDS")
        self._end = time.monotonic() + float(limit) if limit else float("inf")

    def cached(self, name: str, facts: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """The JSON value of ``make()``, from disk if it is there; None after the time limit."""
        path = self.folder / f"{name}-{self._hash(facts)}.json"
        if path.exists():
            self.kept += 1
            return json.loads(path.read_text("utf-8"))
        if time.monotonic() > self._end:
            self.missing += 1
            return None
        begin = time.process_time()
        value = make()
        fresh = path.with_suffix(".part")
        fresh.write_text(json.dumps(value), "utf-8")
        fresh.replace(path)
        print(f"{name}: {time.process_time() - begin:.1f} s", flush=True)
        return value

    def _hash(self, facts: Mapping[str, Any]) -> str:
        known = [facts, self.corpus.card["graphs_sha256"], __version__]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]

    # --- graphs -----------------------------------------------------------------------------------

    def config(self, seed: int, *changes: str) -> dict[str, Any]:
        """The configuration ``lggm-plain`` for one seed."""
        base = resolve_config("lggm-plain", [f"seed={seed}", *self.plan.overrides])
        return apply_overrides(base, changes)

    @cached_property
    def corpus(self) -> Any:
        """All domains."""
        from graphdiff.data import load

        data = LggmTask.from_config(split_config(self.config(0))[0]).config.data
        return load("lggm", nodes=(data.smallest, data.nodes), counts=data.counts)

    @cached_property
    def molecules(self) -> Any:
        """QM9 without classes, of as many nodes as the corpus has at least."""
        from graphdiff.data import load
        from graphdiff.data.graphs import Graphs

        graphs = load("qm9").split("train")
        graphs = graphs[np.flatnonzero(graphs.num_nodes >= 8)]
        return Graphs(graphs.num_nodes, graphs.edge_ptr, graphs.edges)

    def test(self, domain: str) -> Any:
        """Test graphs of a domain."""
        return self.corpus.graphs[self.corpus.of_domain(domain, "test")]

    def counts(self, domain: str) -> list[int]:
        """Node counts of samples: those of the test graphs, in a random order."""
        n, sizes = self.plan.samples, self.test(domain).num_nodes
        order = np.random.default_rng(0).permutation(len(sizes))
        return sizes[np.resize(order, n)].tolist()

    # --- models -----------------------------------------------------------------------------------

    def pretrained(self, seed: int, domain: str | None, noise: str = "marginal") -> str | None:
        """Folder of a model of all domains but one; ``None`` stands for QM9 topologies."""
        name = f"pretrain-{domain or 'qm9'}-{noise}-{seed}"
        held = [] if domain is None else [f'data.holdout=["{domain}"]']
        config = self.config(seed, f"noise.kind={noise}", *held)
        return self._train(name, config, None if domain else self._qm9(config), None)

    def tuned(self, seed: int, domain: str, limit: int, init: str | None) -> str | None:
        """Folder of a model of a few graphs of one domain; the seed chooses the graphs."""
        changes = [
            f'data.domains=["{domain}"]', f"data.limit={limit}",
            f"train.steps={self.plan.tune_steps}",
        ]  # fmt: skip
        config = self.config(seed, *changes)
        name = f"{'tune' if init else 'scratch'}-{domain}-{limit}-{seed}"
        return self._train(name, config, self._few(config, domain, limit, seed), init)

    def _train(self, name: str, config: dict[str, Any], data: Any, init: str | None) -> str | None:
        facts = {"config": config, "init": None if init is None else _name(init)}

        def make() -> str:
            from graphdiff.train import TrainConfig, Trainer

            task, train = split_config(config)
            out = self.folder / f"{name}-{self._hash(facts)}"
            trainer = Trainer(
                LggmTask.from_config(task), TrainConfig.from_config(train), out,
                data=None if data is None else data(), init=init,
            )  # fmt: skip
            outcome = trainer.run()
            if not outcome.finished:
                raise KeyboardInterrupt(outcome.message)
            return str(outcome.model)

        found: str | None = self.cached(name, facts, make)
        return found

    def _qm9(self, config: dict[str, Any]) -> Callable[[], CorpusGraphs]:
        from graphdiff.data.corpus.statistics import average_degree, clustering

        def make() -> CorpusGraphs:
            graphs = self.molecules
            facts = average_degree(graphs), clustering(graphs)
            domain = np.zeros(len(graphs), np.int64)
            mark = {"name": "qm9 topologies", "n": len(graphs), "sha256": graphs.sha256()}
            return CorpusGraphs(
                graphs, domain, ("chem",), facts, nodes=config["data"]["nodes"], fingerprint=mark
            )

        return make

    def _few(
        self, config: dict[str, Any], domain: str, limit: int, seed: int
    ) -> Callable[[], CorpusGraphs]:
        def make() -> CorpusGraphs:
            corpus = self.corpus
            index = corpus.of_domain(domain, "train")
            index = np.random.default_rng(seed).permutation(index)[:limit]
            graphs = corpus.graphs[index]
            mark = {"name": "lggm", "n": len(graphs), "sha256": graphs.sha256()}
            facts = corpus.average_degree[index], corpus.clustering[index]
            return CorpusGraphs(
                graphs, corpus.domain[index], corpus.domains, facts,
                nodes=config["data"]["nodes"], fingerprint=mark,
            )  # fmt: skip

        return make

    # --- scores -----------------------------------------------------------------------------------

    def score(self, model: str | None, domain: str, seed: int) -> Sample | None:
        """Unbiased squared MMD of samples against the test graphs of a domain, and their mean."""
        if model is None:
            return None

        def make() -> Sample:
            import graphdiff
            from graphdiff.graph.metrics import evaluate_graphs

            sizes = self.counts(domain)
            drawn = graphdiff.load(model).samples(len(sizes), seed=seed, cond={"size": sizes})
            report = evaluate_graphs(
                drawn.raw, self.test(domain), metrics=METRICS, kernel=KERNEL,
                estimator="unbiased", n_boot=2,
            )  # fmt: skip
            return _mean({metric.name: metric.value for metric in report.metrics})

        facts = {"n": self.plan.samples, "seed": seed}
        found: Sample | None = self.cached(f"score-{_name(model)}-on-{domain}", facts, make)
        return found

    def floor(self, domain: str) -> dict[str, Any]:
        """What as many training graphs of the domain itself score, with the range of 95 %."""

        def make() -> dict[str, Any]:
            from graphdiff.graph.metrics import evaluate_graphs

            train = self.corpus.graphs[self.corpus.of_domain(domain, "train")]
            some = train[np.random.default_rng(0).permutation(len(train))[: self.plan.samples]]
            report = evaluate_graphs(
                some, self.test(domain), train, metrics=METRICS, kernel=KERNEL,
                estimator="unbiased", n_boot=self.plan.boot,
            )  # fmt: skip
            rows = {m.name: {"value": m.floor, "range": m.floor_interval} for m in report.metrics}
            return rows | {"mean": {"value": float(np.mean([r["value"] for r in rows.values()]))}}

        data = self.config(0)["data"]
        return self.cached(f"floor-{domain}", {"n": self.plan.samples, "data": data}, make) or {}


def _name(model: str) -> str:
    """Name of the training whose checkpoint ``model`` is."""
    return Path(model).parts[-3]


def _mean(values: Sample) -> Sample:
    return values | {"mean": float(np.mean(list(values.values())))}


def interval(values: list[float]) -> tuple[float, float] | None:
    """95 % interval of a mean over seeds by Student's t; None for fewer than two seeds."""
    n = len(values)
    if n < 2:
        return None
    half = T[n - 1] * float(np.std(values, ddof=1)) / n**0.5
    return (float(np.mean(values)) - half, float(np.mean(values)) + half)


def compare(ours: list[Sample | None], other: list[Sample | None], metric: str) -> dict[str, Any]:
    """Means over the seeds that both have, their intervals, and that of the difference."""
    pairs = [(a[metric], b[metric]) for a, b in zip(ours, other, strict=True) if a and b]
    if not pairs:
        return {"seeds": 0}
    a, b = ([pair[k] for pair in pairs] for k in (0, 1))
    gain = [y - x for x, y in pairs]
    return {
        "seeds": len(pairs), "ours": float(np.mean(a)), "ours_interval": interval(a),
        "other": float(np.mean(b)), "other_interval": interval(b),
        "gain": float(np.mean(gain)), "gain_interval": interval(gain),
    }  # fmt: skip
