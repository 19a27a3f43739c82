"""Small models of token strings whose law is known by enumeration."""

from __future__ import annotations

from typing import Any

import torch
from exact_discrete import ExactDiscrete, all_states, random_law
from torch import Tensor, nn

from graphdiff.core.ctmc import CTMC
from graphdiff.core.denoiser import Denoiser, Logits, Subs
from graphdiff.core.process import Product
from graphdiff.core.state import State
from graphdiff.sequence.alphabet import DNA
from graphdiff.sequence.infill import Infilling
from graphdiff.sequence.mdlm import MdlmTask

TOKENS = 3


def config(**changes: Any) -> dict[str, Any]:
    """A small valid configuration; keyword tables are merged into it."""
    base: dict[str, Any] = {
        "kind": "mdlm",
        "seed": 3,
        "data": {
            "name": "own.fasta", "alphabet": "dna", "length": 9,
            "lengths": [0, 0, 0, 1, 0, 2, 3, 0, 1, 2], "letter_probs": [0.4, 0.3, 0.2, 0.1],
        },
        "model": {"kind": "dilated", "width": 8, "stacks": 1, "kernel": 3, "dilations": [1, 2]},
        "sample": {"steps": 9},
    }  # fmt: skip
    for name, value in changes.items():
        merge = isinstance(value, dict) and "kind" not in value
        base[name] = {**base.get(name, {}), **value} if merge else value
    if base.get("noise", {}).get("kind") in ("uniform", "marginal"):
        base["model"]["time"] = True
    return base


def task(**changes: Any) -> MdlmTask:
    """The task of :func:`config`."""
    return MdlmTask.from_config(config(**changes))


class BayesNet(nn.Module):
    """Logits of the clean letter given all letters, by Bayes' rule over every clean word."""

    def __init__(self, exact: ExactDiscrete) -> None:
        super().__init__()
        self.schedule = exact.process.schedule
        self.pi = torch.tensor(exact.process.stationary, dtype=torch.float64)
        self.words = exact.states[exact.law > 0]
        self.law = exact.law[exact.law > 0]

    def forward(self, values, label, masks, cond=None):
        x, alpha = values["tokens"], self.schedule.alpha(label.double())[:, None, None]
        likelihood = alpha * (x[:, None] == self.words) + (1 - alpha) * self.pi[x][:, None]
        joint = self.law * likelihood.prod(2)
        hot = nn.functional.one_hot(self.words, len(self.pi)).double()
        probs = torch.einsum("bs,sdk->bdk", joint / joint.sum(1, keepdim=True), hot)
        return {"tokens": probs.log().clamp(min=-1e4).float()}


def perfect(task: MdlmTask, tokens: int = TOKENS, seed: int = 0) -> tuple[Denoiser, ExactDiscrete]:
    """A perfect denoiser of the task's process on a random law over DNA words, and the law."""
    part = task.sampler().process["tokens"]
    assert isinstance(part, CTMC)
    classes = len(part.stationary)
    hides = classes == len(DNA) + 1
    exact = ExactDiscrete(part, random_law(classes, tokens, seed, len(DNA)), tokens)
    meaning = {"tokens": Subs() if hides else Logits()}
    return Denoiser(Infilling(BayesNet(exact)), Product({"tokens": part}), meaning), exact


def words(tokens: int = TOKENS) -> Tensor:
    """Every word of ``tokens`` letters."""
    return all_states(len(DNA), tokens)


def law_of(exact: ExactDiscrete) -> Tensor:
    """Probabilities of :func:`words`: the law without the words that hold a mask."""
    return exact.law[(exact.states < len(DNA)).all(1)]


def clean(tokens: Tensor) -> State:
    """Classes ``[b, L]`` as a state."""
    return State({"tokens": tokens}, {}, torch.arange(len(tokens)))
