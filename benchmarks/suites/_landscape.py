r"""All words of a small alphabet: exact laws of masked chains, and a network for them.

Under absorbing noise with :math:`\alpha = 1 - t` and :math:`T` equal steps every token is revealed
in a step drawn uniformly and independently, whatever the network says. The tokens of one step are
drawn from the network's prediction given all earlier ones. So a word's probability is a sum over
ordered partitions of its places into blocks. With :math:`h_k(S)` the sum over ordered partitions of
the places ``S`` into ``k`` blocks of the products of the predictions,

.. math:: h_{k+1}(S) = \sum_{S' \subset S} h_k(S') \prod_{i \in S \setminus S'} p(x^i \mid x^{S'}),
    \qquad p(x) = \sum_k \binom{T}{k} T^{-L}\, h_k(\{1 .. L\}) .

One sweep over pairs of subsets gives the law for every number of steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from graphdiff.core.categorical import Absorbing
from graphdiff.core.denoiser import Denoiser, Subs
from graphdiff.core.jump import AncestralJump
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.schedule import FlowMatching
from graphdiff.core.state import State

__all__ = ["Conditionals", "Words", "WordNet", "markov_law"]


@dataclass(frozen=True)
class Words:
    """All words of ``length`` letters; word number ``k`` is ``k`` in base ``letters``.

    Attributes:
        letters: Size of the alphabet.
        length: Letters of a word.
    """

    letters: int = 4
    length: int = 8

    @cached_property
    def all(self) -> Tensor:
        """Every word, int64 ``[letters ** length, length]``."""
        n = torch.arange(self.letters**self.length)
        power = self.letters ** torch.arange(self.length - 1, -1, -1)
        return n[:, None] // power % self.letters

    @cached_property
    def product(self) -> Product:
        """Masks on a linear schedule."""
        return Product({"tokens": Absorbing(FlowMatching(), self.letters + 1)})

    def sampler(self, steps: int) -> Sampler:
        """The chain."""
        return Sampler(self.product, AncestralJump(), Times(steps, end=0.0))

    def template(self, ids: Tensor) -> State:
        """Shapes."""
        return State({"tokens": torch.zeros(len(ids), self.length, dtype=torch.int64)}, {}, ids)

    def number(self, tokens: Tensor) -> Tensor:
        """Number of each word, int64 ``[b]``."""
        power = self.letters ** torch.arange(self.length - 1, -1, -1)
        return (tokens * power).sum(1)

    def denoiser(self, net: nn.Module) -> Denoiser:
        """The network with what its output means."""
        return Denoiser(net, self.product, {"tokens": Subs()})

    def blocks(self, net: nn.Module) -> Tensor:
        """``h_k`` of all places for each word, float64 ``[length + 1, words]``."""
        n, words, full = self.length, len(self.all), (1 << self.length) - 1
        table = self._predictions(net)
        sums = np.zeros((full + 1, n + 1, words), np.float32)
        sums[0, 0] = 1
        x, base = self.all.numpy(), self.letters + 1
        power = base ** np.arange(n - 1, -1, -1)
        for seen in range(full):
            shown = np.array([seen >> i & 1 for i in range(n)], bool)
            row = (np.where(shown, x, self.letters) * power).sum(1)
            count, left = int(shown.sum()), [i for i in range(n) if not shown[i]]
            each = {i: table[row, i, x[:, i]] for i in left}
            joint: dict[int, Any] = {0: np.ones(words, np.float32)}
            before = sums[seen, : count + 1]
            for block in range(1, 1 << len(left)):
                low = (block & -block).bit_length() - 1
                joint[block] = joint[block & (block - 1)] * each[left[low]]
                joined = seen | sum(1 << left[j] for j in range(len(left)) if block >> j & 1)
                sums[joined, 1 : count + 2] += before * joint[block]
        return torch.from_numpy(sums[full]).double()

    def law(self, net: nn.Module, steps: int) -> Tensor:
        """The exact law of the chain of a network, float64 ``[words]``."""
        h = self.blocks(net)
        weight = [math.comb(steps, k) / steps**self.length for k in range(self.length + 1)]
        p = torch.tensor(weight, dtype=torch.float64) @ h
        return p / p.sum()

    def _predictions(self, net: nn.Module) -> Any:
        """Probabilities at every masked word, ``[(letters + 1) ** length, length, letters]``."""
        base, found = self.letters + 1, []
        power = base ** torch.arange(self.length - 1, -1, -1)
        training = net.training
        net.eval()
        with torch.no_grad():
            for rows in torch.arange(base**self.length).split(1 << 15):
                tokens = rows[:, None] // power % base
                out = net({"tokens": tokens}, torch.zeros(len(rows)), {}, None)["tokens"]
                found.append(torch.softmax(out[..., :-1], -1))
        net.train(training)
        return torch.cat(found).numpy()


class Conditionals(nn.Module):
    """The perfect network of a law: the conditionals of every masked word, looked up.

    A chain with it misses the law only because letters of one step are drawn independently.

    Args:
        words: What it is for.
        law: Positive probabilities ``[words]``.
    """

    def __init__(self, words: Words, law: Tensor) -> None:
        super().__init__()
        n, k = words.length, words.letters
        mass = law.double().view([k] * n)
        for place in range(n):  # letter k of a place sums over its letters
            mass = torch.cat([mass, mass.sum(place, keepdim=True)], place)
        logits = [
            mass.narrow(i, 0, k).log().movedim(i, -1).unsqueeze(i).expand(*[k + 1] * n, k)
            for i in range(n)
        ]
        table = torch.stack([part.reshape(-1, k) for part in logits], 1).float()
        self.register_buffer("table", nn.functional.pad(table, (0, 1)))
        self.power = (k + 1) ** torch.arange(n - 1, -1, -1)

    def forward(
        self, values: Any, label: Tensor, masks: Any, cond: Any = None
    ) -> dict[str, Tensor]:
        """Logits ``[b, length, letters + 1]``; those of the mask mean nothing."""
        table: Tensor = self.table  # type: ignore[assignment]
        return {"tokens": table[(values["tokens"] * self.power).sum(1)]}


class WordNet(nn.Module):
    """A multilayer perceptron on the letters, which knows no time.

    Args:
        words: What it is for.
        width: Of its two hidden layers.
    """

    def __init__(self, words: Words, width: int = 256) -> None:
        super().__init__()
        self.words = words
        size = words.length * (words.letters + 1)
        self.layers = nn.Sequential(
            nn.Linear(size, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
            nn.Linear(width, size),
        )  # fmt: skip

    def forward(
        self, values: Any, label: Tensor, masks: Any, cond: Any = None
    ) -> dict[str, Tensor]:
        """Logits ``[b, length, letters + 1]`` of tokens or of their weights."""
        tokens = values["tokens"]
        if not tokens.is_floating_point():
            tokens = torch.nn.functional.one_hot(tokens, self.words.letters + 1).float()
        return {"tokens": self.layers(tokens.flatten(1)).view(tokens.shape)}

    def fit(self, law: Tensor, steps: int, *, batch: int = 1024, lr: float = 3e-3) -> None:
        """Train on words drawn from a law."""
        words, denoiser = self.words, self.words.denoiser(self)
        optimizer = torch.optim.Adam(self.parameters(), lr)
        cdf = law.cumsum(0)
        for k in range(steps):
            optimizer.param_groups[0]["lr"] = lr * (1 - k / steps)
            ids = torch.arange(k * batch, (k + 1) * batch)
            key = Key(0, ids, step=1)
            u = key.at(stream="word").uniform(1, torch.float64).squeeze(1)
            number = torch.searchsorted(cdf, u * cdf[-1]).clamp(max=len(cdf) - 1)
            clean = State({"tokens": words.all[number]}, {}, ids)
            t = key.at(stream="time").uniform(1).squeeze(1)
            noisy = words.product.corrupt(clean, t, key)
            loss = words.product.loss(denoiser(noisy, t), clean, noisy, t)["tokens"].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def markov_law(words: Words, seed: int = 0) -> Tensor:
    """A law with memory: a random chain of order 2, float64 ``[words]``."""
    k, generator = words.letters, torch.Generator().manual_seed(seed)
    table = torch.rand(k, k, k, dtype=torch.float64, generator=generator).pow(1.5) + 0.05
    table = table / table.sum(-1, keepdim=True)
    x = words.all
    p = torch.full((len(x),), 1 / k**2, dtype=torch.float64)
    for i in range(2, words.length):
        p = p * table[x[:, i - 2], x[:, i - 1], x[:, i]]
    return p / p.sum()
