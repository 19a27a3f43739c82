"""The exact law of masked chains that the suite ``exact-reward`` compares with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from suites import load_suite

from graphdiff.core.rng import Key

ROOT = Path(__file__).resolve().parents[2]


def landscape() -> Any:
    return load_suite("_landscape")


def noisy(module: Any, words: Any, seed: int = 0) -> Any:
    """A table of values far from zero on a base model."""
    net = module.ValueTable(module.Conditionals(words, module.markov_law(words)))
    with torch.no_grad():
        net.value.normal_(generator=torch.Generator().manual_seed(seed))
    return net


def test_the_law_is_that_of_the_chain() -> None:
    """Against the share of each word among many draws of the sampler."""
    module = landscape()
    words, n = module.Words(2, 3), 40_000
    net = noisy(module, words)
    with torch.no_grad():
        end = words.sampler(words.denoiser(net), words.template(torch.arange(n)), seed=1)
    found = torch.bincount(words.number(end["tokens"]), minlength=8).double() / n
    law = words.law(net)
    error = (law * (1 - law) / n).sqrt()
    assert float(((found - law) / error).abs().max()) < 4.5
    other = words.law(noisy(module, words, 1))
    assert float(((found - other) / error).abs().max()) > 4.5


def test_exact_conditionals_give_the_law_and_their_value_the_target() -> None:
    """Also the optimum of tuning: the base times the value of what a word becomes."""
    module = landscape()
    words = module.Words(3, 4)
    law = module.markov_law(words)
    base = module.Conditionals(words, law)
    torch.testing.assert_close(words.law(base), law, atol=1e-7, rtol=1e-5)
    gain = torch.rand(len(law), dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 3
    mass = torch.stack([law, law * gain.exp()]).view(2, *[3] * 4)
    for place in range(1, 5):
        mass = torch.cat([mass, mass.sum(place, keepdim=True)], place)
    net = module.ValueTable(base)
    with torch.no_grad():
        net.value.copy_((mass[1] / mass[0]).log().flatten())
    target = law * gain.exp()
    torch.testing.assert_close(words.law(net), target / target.sum(), atol=1e-7, rtol=1e-5)
    with torch.no_grad():
        net.value.mul_(0.9)
    assert float((words.law(net) - target / target.sum()).abs().sum()) > 1e-2


def test_weights_of_letters_are_letters_at_the_corners_and_linear_between() -> None:
    module = landscape()
    words = module.Words(3, 4)
    net = noisy(module, words)
    tokens = torch.tensor([[0, 3, 2, 3], [3, 3, 1, 0]])
    hot = torch.nn.functional.one_hot(tokens, 4).double().requires_grad_()
    soft, hard = (net({"tokens": x}, None, {}, None)["tokens"][..., :3] for x in (hot, tokens))
    p, q = torch.softmax(soft, -1), torch.softmax(hard, -1)
    torch.testing.assert_close(p.float(), q, atol=1e-6, rtol=1e-5)
    (slope,) = torch.autograd.grad(p[0, 1, 2], hot)
    moved = tokens.clone()
    moved[0, 0] = 1
    there = torch.softmax(net({"tokens": moved}, None, {}, None)["tokens"][..., :3], -1)
    want = there[0, 1, 2] - q[0, 1, 2]
    torch.testing.assert_close(
        (slope[0, 0, 1] - slope[0, 0, 0]).float(), want, atol=1e-6, rtol=1e-4
    )


def test_the_bound_of_exact_conditionals_is_the_entropy() -> None:
    """Any order of exact conditionals has the probability of the word: the bound is tight."""
    module = landscape()
    words, n = module.Words(3, 4), 40_000
    law = module.markov_law(words)
    number = torch.multinomial(law, n, True, generator=torch.Generator().manual_seed(3))
    net, key = module.Conditionals(words, law), Key(4, torch.arange(n), step=1)
    each = module.any_order_loss(net, 3, words.all[number], key).double()
    entropy = -float((law * law.log()).sum())
    assert abs(float(each.mean()) - entropy) < 4.5 * float(each.std()) / n**0.5
    assert float(each.std()) / n**0.5 < 0.01 * entropy  # a tenth off would be seen


def test_a_network_learns_the_law() -> None:
    module = landscape()
    words = module.Words(3, 4)
    law = module.markov_law(words)
    torch.manual_seed(0)
    net = module.WordNet(words, 64)
    before = float((words.law(net) - law).abs().sum() / 2)
    net.fit(law, 1000, batch=512)
    assert float((words.law(net) - law).abs().sum() / 2) < 0.5 * before
    assert abs(float(law.sum()) - 1) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["exact-reward", "dna-reward", "molecule-reward", "protein-reward", "stability-reward", "nas"],
)
def test_suites_run(name: str, tmp_path: Path) -> None:
    if "GRAPHDIFF_DATA" not in os.environ:
        pytest.skip("needs the published data: set GRAPHDIFF_DATA")
    subprocess.run(
        [sys.executable, "-m", "graphdiff", "bench", name, "--quick", "--out", str(tmp_path)],
        check=True, cwd=ROOT, timeout=900,
    )  # fmt: skip
    record = json.loads((tmp_path / f"{name}.json").read_text())
    assert record["table"]
    assert all(check["passed"] for check in record["checks"])
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
