r"""Oracles: predicted properties of sequences as rewards that can be differentiated.

An oracle is a trained regressor (:mod:`graphdiff.sequence.regressor`) or a published network. As a
reward it takes finished states whose ``tokens`` are classes, or class weights
:math:`w \in [0, 1]^{L \times K}`; gradients flow into weights, which is what direct fine-tuning
(DRAKES, Wang et al., 2024, arXiv 2410.13643) needs. A reward that was tuned towards is no judge of
the result: judge with an oracle of other data (``regressor-yeast-a`` and ``-b`` are trained on
disjoint families of promoters).

The published AAV oracle and predictors of GGS (Kirjner et al., ICLR 2024, arXiv 2307.00494) are

.. math:: y = w^\top \max_i \mathrm{ReLU}(W (C * x)_i + b) + c

with a convolution :math:`C` of five residues without padding; their fitness is normalised to
:math:`(y - 0) / 19.536`, the span of the measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError, CheckpointError
from graphdiff.core.state import State
from graphdiff.model import Model, load
from graphdiff.sequence.alphabet import PROTEIN, Alphabet, find_alphabet
from graphdiff.sequence.nets_regressor import class_weights
from graphdiff.sequence.regressor import RegressorTask, predict
from graphdiff.sequence.sequences import Sequences

__all__ = [
    "GGSNetwork",
    "GGSOracle",
    "OracleReward",
    "Predictor",
    "Regressor",
    "ggs_oracle",
    "load_oracle",
    "oracle_rewards",
    "predict_sequences",
]

GGS_LETTERS = "ARNDCQEGHILKMFPSTWYV"
GGS_LOW, GGS_HIGH = 0.0, 19.536
BATCH = 512


class Predictor(Protocol):
    """What predicts properties of sequences."""

    @property
    def name(self) -> str:
        """For tables and errors."""

    @property
    def alphabet(self) -> Alphabet:
        """Of the sequences it reads."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the properties."""

    def __call__(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Properties ``[b, targets]`` of classes ``[b, L]`` or class weights ``[b, L, K]``."""


@dataclass(frozen=True)
class Regressor:
    """A trained regressor, ready to predict.

    Attributes:
        model: A model of the kind ``regressor``.

    Raises:
        CheckpointError: The model is of another kind.
    """

    model: Model

    def __post_init__(self) -> None:
        if not isinstance(self.model.task, RegressorTask):
            raise CheckpointError(
                f"model {self.model.name!r} is of kind {self.model.task.kind!r}, but an oracle is "
                "a 'regressor'; give the folder of a regressor, or train one with `graphdiff "
                "train regressor-yeast-a --out FOLDER`"
            )

    @property
    def task(self) -> RegressorTask:
        """The task of the model."""
        task = self.model.task
        assert isinstance(task, RegressorTask)
        return task

    @property
    def name(self) -> str:
        """Name of the model; that of the run, for a checkpoint of a training."""
        path = self.model.path
        if path is not None and path.parent.name == "checkpoints":
            return path.resolve().parent.parent.name
        return self.model.name

    @property
    def alphabet(self) -> Alphabet:
        """Of the training set."""
        return find_alphabet(self.task.config.data.alphabet)

    @property
    def targets(self) -> tuple[str, ...]:
        """What it was trained to predict."""
        return self.task.config.data.targets

    def __call__(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Targets ``[b, targets]`` in the units of the measurements, on the device of ``tokens``.

        Args:
            tokens: Classes int64 ``[b, L]`` or class weights ``[b, L, K]`` or ``[b, L, K + 1]``.
            mask: True where real, ``[b, L]``.

        Raises:
            ArgumentError: Tokens of another alphabet, or longer than the model reads.
        """
        if self.model.device != tokens.device:
            self.model.to(tokens.device)
        return predict(self.model.denoiser, tokens, mask, len(self.targets))


class GGSNetwork(nn.Module):
    """The published network; its parameters carry the names of the checkpoints."""

    def __init__(self, width: int = 256, kernel: int = 5) -> None:
        super().__init__()
        self.encoder = nn.Conv1d(len(GGS_LETTERS), width, kernel)
        self.embedding = nn.ModuleDict({"layer": nn.Linear(width, 2 * width)})
        self.decoder = nn.Linear(2 * width, 1)

    def forward(self, weights: Tensor, mask: Tensor | None = None) -> Tensor:
        """Fitness ``[b]`` of class weights ``[b, L, 20]`` in the order of the checkpoints."""
        h = self.encoder(weights.transpose(1, 2)).transpose(1, 2)
        h = F.relu(self.embedding["layer"](h))
        if mask is not None:
            whole = mask.unfold(1, self.encoder.kernel_size[0], 1).all(-1)
            h = h * whole.unsqueeze(-1)  # not negative, so that zero never wins the maximum
        out: Tensor = self.decoder(h.amax(1)).squeeze(1)
        return out


@dataclass(frozen=True)
class GGSOracle:
    """A published AAV oracle.

    Attributes:
        name: Name of its file.
        net: The network.
        order: Place in our alphabet of each letter of the network's.
    """

    name: str
    net: GGSNetwork
    order: Tensor
    targets: tuple[str, ...] = ("fitness", "normalised")

    @property
    def alphabet(self) -> Alphabet:
        """Proteins."""
        return PROTEIN

    def __call__(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """``fitness`` and ``normalised`` fitness ``[b, 2]``, on the device of ``tokens``.

        Raises:
            ArgumentError: Tokens of another alphabet, or a sequence shorter than five residues.
        """
        weights = class_weights(tokens, len(PROTEIN), mask)
        shortest = weights.shape[1] if mask is None else int(mask.sum(1).min())
        kernel = self.net.encoder.kernel_size[0]
        if shortest < kernel:
            raise ArgumentError(
                f"{self.name} reads windows of {kernel} residues, but a sequence has {shortest}"
            )
        net = self.net.to(weights.device)
        weights = weights.to(net.decoder.weight.dtype)[..., self.order.to(weights.device)]
        y = net(weights, mask)
        return torch.stack([y, (y - GGS_LOW) / (GGS_HIGH - GGS_LOW)], dim=1)


def ggs_oracle(path: str | Path) -> GGSOracle:
    """Read a published AAV checkpoint of GGS; nothing in it is executed.

    Raises:
        CheckpointError: The file is missing, damaged, or holds another network.
    """
    file = Path(path).expanduser()
    try:
        found: Any = torch.load(file, map_location="cpu", weights_only=True)
        state = {k.removeprefix("predictor."): v for k, v in found["state_dict"].items()}
    except (OSError, RuntimeError, UnpicklingError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"cannot read {file} as a checkpoint of GGS: {error}; expected for example "
            "aav_cnn_oracle.ckpt of its repository"
        ) from error
    net = GGSNetwork()
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            f"{file} holds another network than that of GGS: {' '.join(str(error).split())}"
        ) from error
    order = torch.tensor([PROTEIN.letters.index(letter) for letter in GGS_LETTERS])
    return GGSOracle(file.stem, net.eval().requires_grad_(False), order)


def load_oracle(name_or_path: str | Path) -> Predictor:
    """A regressor by shipped name or folder, or a published ``.ckpt`` file of GGS.

    Raises:
        CheckpointError: There is no such model, it is damaged, or it is no regressor.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix == ".ckpt":
        return ggs_oracle(path)
    return Regressor(load(name_or_path))


def predict_sequences(
    predictor: Predictor, sequences: Sequences, *, batch: int = BATCH
) -> NDArray[np.float64]:
    """Properties ``[n, targets]`` of packed sequences.

    Raises:
        ArgumentError: The sequences are of another alphabet.
    """
    _same_alphabet(predictor, sequences.alphabet)
    order = np.argsort(sequences.lengths, kind="stable")
    out = np.empty((len(sequences), len(predictor.targets)))
    with torch.no_grad():
        for start in range(0, len(order), batch):
            index = order[start : start + batch]
            tokens, mask = (torch.from_numpy(x) for x in sequences.dense(index))
            out[index] = predictor(tokens, mask).double().numpy()
    return out


def _same_alphabet(predictor: Predictor, alphabet: Alphabet) -> None:
    if alphabet != predictor.alphabet:
        raise ArgumentError(
            f"oracle {predictor.name!r} reads {predictor.alphabet.name} "
            f"({predictor.alphabet.letters}), but the sequences are {alphabet.name} "
            f"({alphabet.letters}); choose an oracle of that alphabet"
        )


class OracleReward:
    """One predicted property of finished sequences as a reward.

    Args:
        oracle: A predictor, or the name, folder or file of one (:func:`load_oracle`).
        target: Which property; may be left out if there is one only.
        alphabet: Of the states that will be judged, to be refused now if it is another.

    Raises:
        ArgumentError: The target is unknown or left out, or the alphabet is another.
        CheckpointError: There is no such model, or it is no regressor.
    """

    differentiable: bool = True

    def __init__(
        self,
        oracle: Predictor | str | Path,
        target: str | None = None,
        *,
        alphabet: Alphabet | None = None,
    ) -> None:
        predictor = load_oracle(oracle) if isinstance(oracle, str | Path) else oracle
        known = predictor.targets
        if target is None and len(known) == 1:
            target = known[0]
        if target is None or target not in known:
            raise ArgumentError(
                f"oracle {predictor.name!r} predicts {', '.join(known)}, but "
                f"{'none of them is named' if target is None else f'{target!r} is asked for'}; "
                f"write for example oracle:{predictor.name}@{known[0]}"
            )
        if alphabet is not None:
            _same_alphabet(predictor, alphabet)
        self.predictor = predictor
        self.target = target
        self._column = known.index(target)

    @property
    def name(self) -> str:
        """As it is written in ``--reward``."""
        return f"oracle:{self.predictor.name}@{self.target}"

    def __call__(self, state: State) -> Tensor:
        """The property ``[b]``, float64, of ``state["tokens"]`` where its mask is True.

        Raises:
            ArgumentError: The state has no ``tokens``, or they are of another alphabet.
        """
        found = self.predictor(state["tokens"], state.mask("tokens"))
        return found[:, self._column].double()


def oracle_rewards(alphabet: Alphabet) -> Mapping[str, Callable[[str], OracleReward]]:
    """How sequence models read ``oracle:NAME[@TARGET]``: makers of rewards by their prefix.

    The maker is given what stands behind ``oracle:``. A name may hold an ``@`` (a folder, say) if
    the target is given too.
    """

    def make(text: str) -> OracleReward:
        name, at, target = text.rpartition("@")
        return OracleReward(name if at else text, target if at else None, alphabet=alphabet)

    return {"oracle": make}
