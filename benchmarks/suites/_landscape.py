r"""All words of a small alphabet: exact laws of chains that reveal letter by letter, and networks.

Masked letters are revealed one at a time in uniformly random order
(:class:`graphdiff.core.remask.FirstHitting`), each drawn from the network's prediction given those
that are visible. With :math:`h(S)` the sum over all orders of the places ``S`` of the products of
the predictions,

.. math:: h(S \cup i) \mathrel{+}= h(S)\, p(x^i \mid x^S), \qquad p(x) = h(\{1 .. L\}) / L! ,

one sweep over the subsets of places gives the probability of every word.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from graphdiff.core.categorical import Absorbing
from graphdiff.core.denoiser import Denoiser, Subs
from graphdiff.core.process import Product
from graphdiff.core.remask import FirstHitting
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.schedule import FlowMatching
from graphdiff.core.state import State

__all__ = ["Conditionals", "ValueTable", "WordNet", "Words", "any_order_loss", "markov_law"]


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

    @property
    def sampler(self) -> Sampler:
        """The chain: one letter a step."""
        return Sampler(self.product, FirstHitting(), Times(self.length, end=0.0))

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

    def law(self, net: nn.Module) -> Tensor:
        """The exact law of the chain of a network, float64 ``[words]``."""
        n, table = self.length, self._predictions(net)
        full, base = (1 << n) - 1, self.letters + 1
        x, power = self.all, base ** torch.arange(n - 1, -1, -1)
        sums: dict[int, Tensor] = {0: torch.ones(len(x))}
        for seen in range(full):
            shown = torch.tensor([bool(seen >> i & 1) for i in range(n)])
            row, before = (torch.where(shown, x, self.letters) * power).sum(1), sums.pop(seen)
            for i in range(n):
                if not shown[i]:
                    joint = before * table[row, i, x[:, i]]
                    joined = seen | 1 << i
                    sums[joined] = sums[joined] + joint if joined in sums else joint
        p = sums[full].double() / math.factorial(n)
        return p / p.sum()

    def _predictions(self, net: nn.Module) -> Tensor:
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
        return torch.cat(found)


class Conditionals(nn.Module):
    """The perfect network of a law: the conditionals of every masked word, looked up.

    Args:
        words: What it is for.
        law: Positive probabilities ``[words]``.
    """

    def __init__(self, words: Words, law: Tensor) -> None:
        super().__init__()
        self.words = words
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


class ValueTable(nn.Module):
    r"""A base model times the value of what a word becomes: any law can be held.

    The logit of letter ``a`` at a masked place is that of the base plus :math:`V(x^{i \to a})`, one
    number for each masked word, zero at first. The optimum of tuning is
    :math:`V(x) = \log E_{base}[e^{r/\alpha} \mid x]`. Between words *probabilities* are extended
    linearly in the weights of each letter, as the steps are (:mod:`graphdiff.core.soft`).

    Args:
        base: The base model.
    """

    def __init__(self, base: Conditionals) -> None:
        super().__init__()
        self.base, words = base, base.words
        self.letters, power = words.letters, base.power
        self.value = nn.Parameter(torch.zeros((words.letters + 1) ** words.length))
        self.shift = (torch.arange(words.letters) - words.letters) * power[:, None]

    def forward(self, values: Any, label: Any, masks: Any, cond: Any = None) -> dict[str, Tensor]:
        """Logits ``[b, length, letters + 1]`` of tokens or of their weights."""
        x = values["tokens"]
        if not x.is_floating_point():
            return {"tokens": self._at(x)}
        hard, (n, k) = x.detach().argmax(-1), x.shape[1:]
        here, other = self._at(hard), hard[:, None, None, :].repeat(1, n, k, 1)
        for place in range(n):
            other[:, place, :, place] = torch.arange(k)
        near = torch.softmax(self._at(other)[..., :-1], -1)
        p = torch.softmax(here[..., :-1], -1)
        p = p + ((x - x.detach())[..., None, None] * near).sum((1, 2))
        return {"tokens": torch.cat([p.clamp(min=1e-9).log(), here[..., -1:]], -1)}

    def _at(self, tokens: Tensor) -> Tensor:
        number = (tokens * self.base.power).sum(-1)
        table: Tensor = self.base.table  # type: ignore[assignment]
        hidden, number = tokens == self.letters, number[..., None, None]
        child = torch.where(hidden[..., None], number + self.shift, number)
        lift = nn.functional.pad(self.value[child], (0, 1))
        return table[number[..., 0, 0]] + lift


def any_order_loss(net: nn.Module, letters: int, clean: Tensor, key: Key) -> Tensor:
    """The bound of the negative log-likelihood ``[b]``, at a uniform number of masked letters.

    It has the mean of the continuous-time bound and less variance.
    """
    n = clean.shape[1]
    u = key.uniform(n + 1, torch.float64)
    count = (u[:, -1] * n).long() + 1
    hidden = u[:, :-1].argsort(1).argsort(1) < count[:, None]
    out = net({"tokens": torch.where(hidden, letters, clean)}, None, {}, None)["tokens"]
    surprise = -torch.log_softmax(out[..., :-1], -1).gather(-1, clean[..., None]).squeeze(-1)
    return (surprise * hidden).sum(1) * n / count


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
        optimizer = torch.optim.Adam(self.parameters(), lr)
        cdf = law.cumsum(0)
        for k in range(steps):
            optimizer.param_groups[0]["lr"] = lr * (1 - k / steps)
            key = Key(0, torch.arange(k * batch, (k + 1) * batch), step=1)
            u = key.at(stream="word").uniform(1, torch.float64).squeeze(1)
            number = torch.searchsorted(cdf, u * cdf[-1]).clamp(max=len(cdf) - 1)
            loss = any_order_loss(self, self.words.letters, self.words.all[number], key).mean()
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
