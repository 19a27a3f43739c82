"""The exact law of masked chains that the suite ``exact-reward`` compares with."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from graphdiff.core.state import State
from graphdiff.finetune.rollout import kernels_at

ROOT = Path(__file__).resolve().parents[2]


def landscape() -> Any:
    spec = importlib.util.spec_from_file_location(
        "landscape", ROOT / "benchmarks" / "suites" / "_landscape.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["landscape"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_law_is_that_of_the_chain(steps: int) -> None:
    """Against the product of the transition matrices of every step, over all masked words."""
    module = landscape()
    words = module.Words(2, 3)
    torch.manual_seed(0)
    net = module.WordNet(words, 16)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(4)  # far from uniform
    denoiser, sampler = words.denoiser(net), words.sampler(steps)
    every = module.Words(3, 3).all  # two letters and the mask
    state = State({"tokens": every}, {}, torch.arange(27))
    p = torch.zeros(27, dtype=torch.float64)
    p[-1] = 1
    with torch.no_grad():
        for i in range(steps):
            mean = kernels_at(sampler, denoiser, state, i)["tokens"].mean.double()
            step = mean[:, 0, every[:, 0]] * mean[:, 1, every[:, 1]] * mean[:, 2, every[:, 2]]
            p = p @ step
    clean = (every < 2).all(1)
    got = words.law(net, steps)
    torch.testing.assert_close(got, p[clean] / p[clean].sum(), atol=1e-6, rtol=1e-5)
    assert float((words.law(net, steps + 3) - got).abs().sum()) > 1e-3  # it does depend on steps


def test_exact_conditionals_give_the_law() -> None:
    """One letter at a time, exactly; all at once, the product of the marginals."""
    module = landscape()
    words = module.Words(3, 4)
    law = module.markov_law(words)
    net = module.Conditionals(words, law)
    one_by_one = words.blocks(net)[words.length]
    torch.testing.assert_close(one_by_one / one_by_one.sum(), law, atol=1e-7, rtol=1e-5)
    marginals = [
        torch.zeros(3, dtype=torch.float64).index_add_(0, words.all[:, i], law)[words.all[:, i]]
        for i in range(4)
    ]
    product = torch.stack(marginals).prod(0)
    torch.testing.assert_close(words.law(net, 1), product, atol=1e-7, rtol=1e-5)
    assert float((product - law).abs().sum() / 2) > 0.05  # the two laws do differ


def test_a_network_learns_the_law() -> None:
    module = landscape()
    words = module.Words(3, 4)
    law = module.markov_law(words)
    torch.manual_seed(0)
    net = module.WordNet(words, 64)
    before = float((words.law(net, 32) - law).abs().sum() / 2)
    net.fit(law, 1000, batch=512)
    assert float((words.law(net, 64) - law).abs().sum() / 2) < 0.5 * before
    assert abs(float(law.sum()) - 1) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["exact-reward", "dna-reward", "protein-reward", "stability-reward"]
)
def test_suites_run(name: str, tmp_path: Path) -> None:
    if "GRAPHDIFF_DATA" not in os.environ:
        pytest.skip("needs the sequence data: set GRAPHDIFF_DATA")
    subprocess.run(
        [sys.executable, "-m", "graphdiff", "bench", name, "--quick", "--out", str(tmp_path)],
        check=True, cwd=ROOT, timeout=900,
    )  # fmt: skip
    record = json.loads((tmp_path / f"{name}.json").read_text())
    assert record["table"]
    assert all(check["passed"] for check in record["checks"])
