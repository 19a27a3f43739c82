r"""Property heads: networks that predict measured properties of a sequence.

Regression is denoising of a target of which nothing is left. Let :math:`y` be corrupted by a
Gaussian process with :math:`\alpha_1 = 0`; at clock 1 the noisy target is independent of
:math:`y`, and the clean data that a denoiser answers with is

.. math:: E[y \mid y_1, x] = E[y \mid x],

the regression of :math:`y` on the sequence :math:`x`, which is the denoiser's condition. So a
regressor is a :class:`graphdiff.core.denoiser.Denoiser` with one continuous component ``y``, and
the trainer, checkpoints, resuming and cards need nothing new. What it cannot do is be sampled: it
refuses. Training minimises, over the measured targets of each sequence,

.. math:: \rho\big((\hat y_k(x) - y_k) / s_k\big), \qquad \rho(u) = u^2 \text{ or Huber's},

with :math:`s_k` the standard deviation of target :math:`k` in the training set. Answers are in the
units of the measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphdiff.core.denoiser import X0, Denoiser
from graphdiff.core.errors import ConfigError
from graphdiff.core.gaussian import Gaussian
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.schedule import FlowMatching
from graphdiff.core.space import Dense
from graphdiff.core.state import State
from graphdiff.sequence.alphabet import find_alphabet
from graphdiff.sequence.nets_regressor import PropertyNetwork
from graphdiff.sequence.property_task import PropertyTask
from graphdiff.sequence.regressor_config import RegressorConfig
from graphdiff.sequence.regressor_data import RegressorData, find_dataset
from graphdiff.task import Data
from graphdiff.train.memory import per_example, state_bytes

__all__ = ["RegressorTask", "build_network", "predict"]


def build_network(config: RegressorConfig) -> PropertyNetwork:
    """The network of a config that knows its data, initialised from torch's global generator.

    Raises:
        ConfigError: Alphabet, length or scale of the data are not known yet.
    """
    data, model = config.data, config.model
    if not (data.alphabet and data.length and data.std):
        raise ConfigError(
            "data.alphabet, data.length, data.mean and data.std of a regressor are found in its "
            "training set; train it with `graphdiff train`, or build task.prepared(task.data())"
        )
    return PropertyNetwork(
        len(find_alphabet(data.alphabet)),
        data.mean,
        data.std,
        length=data.length if model.positions else 0,
        width=model.width,
        kernel=model.kernel,
        dilations=model.dilations,
        hidden=model.hidden,
        dropout=model.dropout,
        strands=model.strands,
    )


def predict(denoiser: Denoiser, tokens: Tensor, mask: Tensor | None, targets: int) -> Tensor:
    """Targets ``[b, targets]`` in the units of the measurements; gradients flow into weights.

    Args:
        denoiser: Of a :class:`RegressorTask`.
        tokens: Classes int64 ``[b, L]`` or class weights, as
            :func:`graphdiff.sequence.nets_regressor.class_weights` takes them.
        mask: True where real, ``[b, L]``; None if nothing is padded.
        targets: How many the network has.
    """
    blank = torch.zeros(len(tokens), targets, device=tokens.device)
    masks = {} if mask is None else {"tokens": mask}
    ids = torch.arange(len(tokens), device=tokens.device)
    state = State({"y": blank, "tokens": tokens}, masks, ids)
    answer: Tensor = denoiser(state, torch.ones((), device=tokens.device), tokens)["y"]
    return answer


def other_strand(tokens: Tensor, mask: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens ``[b, L]`` and mask with some ``rows`` (bool ``[b]``) as reverse complement.

    Padding of these rows moves to the front; what lies on it is 0.
    """
    row = rows.unsqueeze(1)
    flipped = torch.where(row, mask.flip(1), mask)
    found = torch.where(row, 3 - tokens.flip(1), tokens)
    return found.masked_fill(~flipped, 0), flipped


@dataclass(frozen=True)
class RegressorTask(PropertyTask):
    """A property head on one data set; see the module docstring."""

    config: RegressorConfig
    kind: ClassVar[str] = "regressor"
    title: ClassVar[str] = "property head of sequences"
    citation: ClassVar[str] = ""
    refusal: ClassVar[str] = (
        "a regressor predicts properties of sequences and cannot be sampled; predict with "
        "graphdiff.sequence.oracles.load_oracle, or sample a generative model with it as the "
        "reward 'oracle:NAME@TARGET'"
    )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "config") -> RegressorTask:
        """Validate a plain mapping; errors name the full path of the key."""
        from graphdiff.config import validate

        return cls(validate(RegressorConfig, config, where=where))

    def to_config(self) -> dict[str, Any]:
        """The plain mapping that :meth:`from_config` accepts."""
        return asdict(self.config)

    def build(self) -> Denoiser:
        """A freshly initialised denoiser of ``y``; the global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            net = build_network(self.config)
        process = Product({"y": Gaussian(FlowMatching(), Dense())})
        return Denoiser(net, process, {"y": X0()})

    def data(self, root: str | Path | None = None) -> RegressorData:
        """The sequences of the training split that have one of the targets."""
        return RegressorData(find_dataset(self.config.data, root), self.config.data)

    def prepared(self, data: Data) -> RegressorTask:
        """Carries alphabet, length, mean and standard deviation of the data into the card."""
        if not isinstance(data, RegressorData):
            return self
        return RegressorTask(replace(self.config, data=data.facts))

    def losses(self, denoiser: Denoiser, clean: State, key: Key) -> dict[str, Tensor]:
        """Loss ``[b]`` of each target, by name; zero where it was not measured."""
        config = self.config
        tokens, mask, y = clean["tokens"], clean.masks["tokens"], clean["y"]
        if config.data.reverse:
            rows = key.at(stream="strand").uniform(1).squeeze(1) < 0.5
            tokens, mask = other_strand(tokens, mask, rows)
        guess = predict(denoiser, tokens, mask, len(config.data.targets))
        std = torch.tensor(config.data.std, dtype=y.dtype, device=y.device)
        known = torch.isfinite(y)
        error = (guess - torch.where(known, y, guess.detach())) / std
        if config.loss.kind == "mse":
            each = error.square()
        else:
            each = F.huber_loss(
                error, torch.zeros_like(error), reduction="none", delta=config.loss.delta
            )
        return {name: (each * known)[:, k] for k, name in enumerate(config.data.targets)}

    def memory(self, batch: int, *, training: bool) -> int | None:
        """Bytes for a batch of the longest sequences."""
        with torch.device("meta"):  # shapes only; the global generator is left as it was
            net = build_network(self.config)
        state, length = state_bytes(net), self.config.data.length
        classes = net.classes

        def call(net: nn.Module, b: int) -> Any:
            weights = torch.zeros(b, length, classes, device="meta")
            return net({}, torch.zeros(b, device="meta"), {}, weights)

        each = per_example(net, call)
        if not training:
            return state // 5 + batch * each // max(len(self.config.model.dilations), 1)
        return state + int(1.5 * batch * each)
