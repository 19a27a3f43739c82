r"""Masked and uniform diffusion of token strings: DNA, RNA, proteins (task kind ``mdlm``).

Each letter is corrupted by itself, by a mask (MDLM, Sahoo et al., 2024, arXiv 2406.07524) or by
redrawing it (D3PM, Austin et al., 2021, arXiv 2107.03006), and a network that sees the whole string
predicts the clean letters. With absorbing noise that survives with probability
:math:`\alpha_t` the bound on the negative log-likelihood is a weighted cross-entropy of the masks,

.. math:: -\log p(x) \le \int_0^1 \frac{-\alpha'_t}{1 - \alpha_t}\,
    E \sum_{i:\, x_t^i = m} -\log p_\theta(x_0^i \mid x_t)\, dt ,

which needs no clock: the network is a masked language model of every masking rate at once. The
loss is this bound (or that of :mod:`graphdiff.core.ctmc` for other noise), divided by the mean
length of the training sequences: nats for each letter. Training times lie in [0.001, 1]. Strings of
like length are computed together; noise belongs to the example, so that batches change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from graphdiff.core.denoiser import Denoiser
from graphdiff.core.errors import ArgumentError, ConfigError
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler, Times
from graphdiff.core.state import State
from graphdiff.sequence.alphabet import Alphabet
from graphdiff.sequence.conditions import KNOWN, each, given_tokens, lengths_of, place_motifs
from graphdiff.sequence.infill import GIVEN
from graphdiff.sequence.mdlm_build import (
    alphabet_of,
    build_denoiser,
    build_network,
    build_process,
    grouped,
    solver_of,
)
from graphdiff.sequence.mdlm_config import MdlmConfig, check_solver
from graphdiff.sequence.mdlm_data import TrainingSequences
from graphdiff.sequence.output import SequenceOutput
from graphdiff.sequence.score_entropy import log_scores, score_entropy
from graphdiff.sequence.sequences import Sequences
from graphdiff.task import Data, Samples, Task
from graphdiff.train.memory import per_example, state_bytes

if TYPE_CHECKING:
    from graphdiff.finetune.reward import Reward

__all__ = ["MdlmTask"]

FIRST = 1e-3
"""Training times begin here: the weight 1/t of the few masks before is all variance."""


@dataclass(frozen=True)
class MdlmTask(Task):
    """Masked or uniform diffusion of sequences; see the module docstring."""

    config: MdlmConfig
    kind: ClassVar[str] = "mdlm"
    title: ClassVar[str] = "MDLM: masked diffusion of sequences"
    citation: ClassVar[str] = """@inproceedings{sahoo2024mdlm,
  title     = {Simple and Effective Masked Diffusion Language Models},
  author    = {Sahoo, Subham Sekhar and Arriola, Marianne and Schiff, Yair and Gokaslan, Aaron and
               Marroquin, Edgar and Chiu, Justin T. and Rush, Alexander and Kuleshov, Volodymyr},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2024}
}"""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "config") -> MdlmTask:
        """Validate a plain mapping; errors name the full path of the key."""
        from graphdiff.config import validate

        return cls(validate(MdlmConfig, config, where=where))

    def to_config(self) -> dict[str, Any]:
        """The plain mapping that :meth:`from_config` accepts."""
        return asdict(self.config)

    @property
    def alphabet(self) -> Alphabet:
        """Letters of the sequences."""
        return alphabet_of(self.config)

    # -- training ---------------------------------------------------------------------------------

    def build(self) -> Denoiser:
        """A freshly initialised denoiser; the global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            return build_denoiser(self.config)

    def data(self, root: str | Path | None = None) -> TrainingSequences:
        """The training split."""
        return TrainingSequences.load(self.config.data, root)

    def prepared(self, data: Data) -> MdlmTask:
        """Carries alphabet, lengths, letter frequencies and thresholds into the card."""
        if not isinstance(data, TrainingSequences):
            return self
        return MdlmTask(replace(self.config, data=data.facts))

    def groups(self, denoiser: Denoiser) -> dict[str, list[Parameter]]:
        """One group, without the frozen frequencies of the clock."""
        return {"net": [p for p in denoiser.net.parameters() if p.requires_grad]}

    def losses(self, denoiser: Denoiser, clean: State, key: Key) -> dict[str, Tensor]:
        """The loss ``[b]``, nats for each letter of a sequence of mean length.

        Labels are hidden from the network with probability ``loss.drop``.
        """
        t = FIRST + (1 - FIRST) * key.at(stream="time").uniform(1).squeeze(1)
        state = clean
        if self.config.data.labels and "label" in clean.values:
            shown = key.at(stream="told").uniform(1).squeeze(1) >= self.config.loss.drop
            told = clean.values.get("told")
            state = clean.replace(told=shown if told is None else told & shown)
        scale = 1.0 if self.config.loss.kind == "ce" else 1 / self.config.data.mean_length
        parts, order = [], []
        for index, part in grouped(state):
            found = self._loss(denoiser, part, t[index], key.select(index))
            parts.append(found * scale)
            order.append(index)
        return {"tokens": torch.cat(parts)[torch.argsort(torch.cat(order))]}

    def _loss(self, denoiser: Denoiser, clean: State, t: Tensor, key: Key) -> Tensor:
        process = denoiser.process
        noisy = process.corrupt(clean, t, key)
        cond = {name: v for name, v in clean.values.items() if name not in process.parts} or None
        if self.config.loss.kind != "score_entropy":
            return process.loss(denoiser(noisy, t, cond), clean, noisy, t)["tokens"]
        part, x_t, mask = process["tokens"], noisy["tokens"], noisy.mask("tokens")
        raw = denoiser.net({"tokens": x_t}, denoiser.label(t, len(t)), noisy.masks, cond)["tokens"]
        scores = log_scores(part, raw.float(), x_t, t)
        return score_entropy(part, scores, clean["tokens"], x_t, t, mask)

    def memory(self, batch: int, *, training: bool) -> int | None:
        """Bytes for a batch of the longest sequences; half as much again for what works."""
        config = self.config
        if not config.data.length or not config.data.alphabet:
            return None
        net = build_network(config)

        def call(net: Module, b: int) -> Any:
            shape = (b, config.data.length)
            tokens = torch.zeros(shape, dtype=torch.int64, device="meta")
            mask = torch.ones(shape, dtype=torch.bool, device="meta")
            clock = torch.zeros(b, device="meta")
            return net({"tokens": tokens}, clock, {"tokens": mask}, None)

        state, kept = state_bytes(net), per_example(net, call)
        if training:
            return state + int(1.5 * batch * kept)
        return state // 5 + int(1.5 * batch * kept / config.model.depth)

    # -- sampling ---------------------------------------------------------------------------------

    def sampler(self, **overrides: Any) -> Sampler:
        """The configured sampler; overrides are the fields of :class:`SequenceSampling`."""
        sample = self.config.sample.with_overrides(overrides) if overrides else self.config.sample
        check_solver(sample, self.config.noise)
        times = Times(sample.steps, end=0.0, distortion=sample.distortion)
        return Sampler(build_process(self.config), solver_of(sample), times)

    def sizes(self, ids: Tensor, seed: int, **cond: Any) -> Tensor:
        """Lengths: of the pattern ``fixed``, as ``length`` says, or drawn from those of training.

        Raises:
            ArgumentError: See :func:`graphdiff.sequence.conditions.lengths_of`.
        """
        data = self.config.data
        return lengths_of(data.lengths, data.length, self.alphabet, ids, seed, cond)

    def settled(self, ids: Tensor, sizes: Tensor, seed: int, **cond: Any) -> dict[str, Any]:
        """The conditions of :meth:`template` with the place of motifs drawn from (seed, id)."""
        return place_motifs(self.alphabet, ids, sizes, seed, cond)

    def template(self, ids: Tensor, sizes: Tensor, *, pad: int, **cond: Any) -> State:
        """Zeros ``tokens [b, pad]`` with their mask, and what the network is told.

        Args:
            ids: Sample ids.
            sizes: Lengths.
            pad: Length to pad to.
            **cond: ``fixed`` (a pattern), ``motif`` and ``at`` (its first letter, from 0; drawn
                from the id if absent), ``label`` (class of the sample), ``guidance`` (how closely
                to follow it), ``length`` (see :meth:`sizes`); one for all samples, or one each.

        Raises:
            ConfigError: A condition is unknown, or the model knows no labels.
            ArgumentError: A pattern, motif or label does not fit.
        """
        if unknown := sorted(set(cond) - set(KNOWN)):
            raise ConfigError(f"mdlm takes {', '.join(KNOWN)}, found {', '.join(unknown)}")
        mask = torch.arange(pad) < sizes.cpu().unsqueeze(1)
        values = {"tokens": torch.zeros(len(ids), pad, dtype=torch.int64)}
        cond = self.settled(ids, sizes, 0, **cond)
        given = given_tokens(self.alphabet, sizes.cpu(), pad, cond)
        if given is not None:
            values[GIVEN] = given
        values |= self._told(len(ids), cond)
        return State(values, {"tokens": mask}, ids.cpu()).to(ids.device)

    def _told(self, n: int, cond: Mapping[str, Any]) -> dict[str, Tensor]:
        """Label and weight of the guidance.

        Raises:
            ConfigError: The model knows no labels.
            ArgumentError: A label is out of range, or guidance comes without one.
        """
        label, weight, labels = cond.get("label"), cond.get("guidance"), self.config.data.labels
        if label is None and weight is None:
            return {}
        if not labels:
            raise ConfigError(
                "this model was trained without labels (data.label is empty), so it takes neither "
                "label nor guidance; guide it by a reward instead"
            )
        if label is None:
            raise ArgumentError("guidance says how closely a label is followed; give label, too")
        for k in (found := each(label, n)):
            if isinstance(k, bool) or not hasattr(k, "__index__") or not 0 <= int(k) < labels:
                raise ArgumentError(
                    f"label must be a class from 0 to {labels - 1} of {self.config.data.label!r} "
                    f"(they begin at {list(self.config.data.thresholds)}), found {k!r}"
                )
        told = {"label": torch.tensor([int(k) for k in found])}
        if weight is not None:
            scale = torch.as_tensor(weight, dtype=torch.float32).expand(n).clone()
            if bool((scale != 1).any()):  # 1 is the plain conditional model
                told["guidance"] = scale
        return told

    # -- finished samples -------------------------------------------------------------------------

    @property
    def _output(self) -> SequenceOutput:
        return SequenceOutput(self.alphabet)

    def scores(self) -> Mapping[str, Callable[[Any], float]]:
        """Scores of a sequence by name."""
        return self._output.scores()

    def reward_makers(self) -> Mapping[str, Callable[[str], Reward]]:
        """Predicted properties, ``oracle:NAME[@TARGET]``."""
        from graphdiff.sequence.oracles import oracle_rewards

        return oracle_rewards(self.alphabet)

    def item_key(self, item: Any) -> Hashable | None:
        """The sequence itself."""
        return str(item)

    def decode(self, state: State) -> tuple[list[Any], Sequences]:
        """Texts, and the packed sequences."""
        raw = self._output.sequences(state)
        return raw.strings(), raw

    def join(self, raws: Sequence[Sequences], order: Sequence[int]) -> Sequences:
        """Concatenate packed sequences and reorder them."""
        return self._output.join(raws, order)

    def write(self, samples: Samples, out: Path) -> list[Path]:
        """``samples.fasta``, and the packed ``samples.npz``."""
        return self._output.write(samples, out)

    def formats(self) -> Mapping[str, str]:
        """Files that hold every sample, by suffix."""
        return self._output.formats()

    def convert(self, samples: Samples, kind: str) -> Sequence[Any]:
        """Samples as ``"str"``, ``"sequences"``, ``"seqrecord"`` or ``"state"``."""
        return self._output.convert(samples, kind)

    def draw(self, samples: Samples, path: Path, *, count: int = 25) -> Path:
        """A sequence logo above an alignment of the first ``count`` samples, as PNG."""
        return self._output.draw(samples, path, count=count)
