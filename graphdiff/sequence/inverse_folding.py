r"""Inverse folding: sequences that fold into a given backbone.

The backbone is the condition, the amino acids are tokens under absorbing noise, and the network
(:class:`graphdiff.sequence.nets.folding.FoldingNet`) predicts masked letters from the structure and
the letters that are visible. Training minimises

.. math:: L = \mathbb E_{t, x_t} \Bigl[\frac{1}{|M_t|} \sum_{i \in M_t}
    -\log p_\theta(x^i_0 \mid x_t, X)\Bigr]

over masked residues :math:`M_t` (``loss.weighting = "ce"``), or the bound on the negative
log-likelihood (``"elbo"``). The published masked flow (Wang et al., 2025, arXiv 2410.13643) also
asks for the letters that are visible, which teaches copying, and smooths labels; this one does not.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor
from torch.nn import Parameter

from graphdiff.core.categorical import Absorbing
from graphdiff.core.denoiser import Denoiser, Subs
from graphdiff.core.errors import ConfigError, DataError
from graphdiff.core.jump import AncestralJump
from graphdiff.core.process import Product
from graphdiff.core.program import Solver
from graphdiff.core.remask import FirstHitting, ReMDM
from graphdiff.core.reveal import ConfidentJump
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Times
from graphdiff.core.schedule import FlowMatching
from graphdiff.core.state import State, bucket_by_size
from graphdiff.data.sources import find
from graphdiff.sequence.convert_mpnn import PROTEIN_MPNN
from graphdiff.sequence.inverse_folding_chain import Autoregressive, DesignSampler
from graphdiff.sequence.inverse_folding_config import FoldingConfig
from graphdiff.sequence.inverse_folding_output import (
    Designs,
    convert_designs,
    draw_designs,
    join_designs,
    write_designs,
)
from graphdiff.sequence.inverse_folding_request import given_state, requests
from graphdiff.sequence.nets.folding import AMINO, FoldingNet
from graphdiff.sequence.structure import Backbone, collate, sha256
from graphdiff.sequence.structure_io import read_backbones
from graphdiff.task import Chain, Data, Samples, Task
from graphdiff.train.memory import per_example, state_bytes

if TYPE_CHECKING:
    from graphdiff.finetune.reward import Reward

__all__ = ["BackboneSet", "InverseFoldingTask"]

TS50 = ("sequence/inverse_folding/ts50.json", "inverse_folding/ts50.json", "ts50.json")


class BackboneSet(Data):
    """Training backbones; a batch is padded to its longest.

    Attributes:
        backbones: Those that are trained on.
        left_out: Number of those that were longer than the config allows.
    """

    def __init__(self, backbones: Sequence[Backbone], name: str, longest: int = 0) -> None:
        kept = [b for b in backbones if not longest or len(b) <= longest]
        if not kept:
            raise DataError(
                f"data set {name!r} has no backbone of at most {longest} residues "
                f"({len(backbones)} are longer); raise data.longest"
            )
        self.backbones = kept
        self.left_out = len(backbones) - len(kept)
        self._name = name

    def __len__(self) -> int:
        return len(self.backbones)

    def batch(self, index: Tensor) -> State:
        """Native ``tokens`` int64 ``[b, L]`` and the conditions of the network."""
        batch = collate([self.backbones[i] for i in index.tolist()])
        known = batch.native < AMINO
        values = {
            "tokens": torch.where(known, batch.native, 0),
            "coords": batch.coords,
            "resolved": batch.resolved,
            "position": batch.position,
            "chain": batch.chain,
            "native": batch.native,
            "given": torch.where(known & batch.resolved, -1, batch.native),
        }
        return State(values, {"tokens": known & batch.resolved}, index)

    def fingerprint(self) -> dict[str, Any]:
        """Name, number of backbones and residues, and sha256."""
        return {
            "name": self._name,
            "split": "train",
            "n": len(self),
            "residues": sum(map(len, self.backbones)),
            "left_out": self.left_out,
            "sha256": sha256(self.backbones),
        }


@dataclass(frozen=True)
class InverseFoldingTask(Task):
    """Sequences for backbones; see the module docstring."""

    config: FoldingConfig
    kind: ClassVar[str] = "inverse-folding"
    title: ClassVar[str] = "Inverse folding: protein sequences for backbones"
    citation: ClassVar[str] = (
        PROTEIN_MPNN
        + """

@inproceedings{wang2025drakes,
  title     = {Fine-Tuning Discrete Diffusion Models via Reward Optimization with Applications to
               {DNA} and Protein Design},
  author    = {Wang, Chenyu and Uehara, Masatoshi and He, Yichun and others},
  booktitle = {International Conference on Learning Representations},
  year      = {2025}
}"""
    )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "config") -> InverseFoldingTask:
        """Validate a plain mapping; errors name the full path of the key."""
        from graphdiff.config import validate

        return cls(validate(FoldingConfig, config, where=where))

    def to_config(self) -> dict[str, Any]:
        """The plain mapping that :meth:`from_config` accepts."""
        return asdict(self.config)

    @property
    def process(self) -> Product:
        """Absorbing noise on ``tokens``: 20 amino acids and the mask."""
        weighting = self.config.loss.weighting
        return Product({"tokens": Absorbing(FlowMatching(), AMINO + 1, weighting=weighting)})

    def build(self) -> Denoiser:
        """A freshly initialised denoiser; the global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            net = FoldingNet(**asdict(self.config.model))
        return Denoiser(net, self.process, {"tokens": Subs()})

    def data(self, root: str | Path | None = None) -> BackboneSet:
        """The backbones of the config."""
        data = self.config.data
        path: Path | None = Path(data.name).expanduser()
        if data.name == "ts50":
            path = find(TS50, root)
        elif path is not None and not path.exists() and root is not None:
            path = Path(root) / data.name
        if path is None or not path.exists():
            raise DataError(
                f"no backbones {data.name!r}: data.name must be a folder of structure files, such "
                "a file, a .json list or a .npz; or 'ts50', with GRAPHDIFF_DATA set to the folder "
                f"that holds {TS50[0]}"
            )
        return BackboneSet(read_backbones(path, missing=data.missing), data.name, data.longest)

    def prepared(self, data: Data) -> InverseFoldingTask:
        """Carries the size of the largest backbone into the card."""
        if not isinstance(data, BackboneSet):
            return self
        largest = max(map(len, data.backbones))
        facts = replace(self.config.data, largest=largest)
        return InverseFoldingTask(replace(self.config, data=facts))

    def losses(self, denoiser: Denoiser, clean: State, key: Key) -> dict[str, Tensor]:
        """Cross-entropy of masked residues, or the bound, ``[b]``; see the module docstring."""
        t = key.at(stream="time").uniform(1).squeeze(1)
        buckets = bucket_by_size(clean["resolved"].sum(1).cpu(), batch=clean.batch_size)
        parts, places = [], []
        for bucket in buckets:
            index = bucket.index.to(clean.device)
            state, own = _trimmed(clean.select(index)), key.select(index)
            # The backbone of a design is what was asked for, that of an example is blurred.
            noise = 0.0 if "temperature" in state.values else self.config.data.noise
            if noise:
                shape = state["coords"].shape
                drawn = own.at(stream="coords").normal(shape[1:].numel()).reshape(shape)
                state = state.replace(coords=state["coords"] + noise * drawn)
            noisy = denoiser.process.corrupt(state, t[index], own)
            cond = {name: v for name, v in state.values.items() if name != "tokens"}
            answer = denoiser(noisy, t[index], cond)
            parts.append(denoiser.process.loss(answer, state, noisy, t[index])["tokens"])
            places.append(index)
        return {"tokens": torch.cat(parts)[torch.argsort(torch.cat(places))]}

    def groups(self, denoiser: Denoiser) -> dict[str, list[Parameter]]:
        """One group."""
        return {"net": list(denoiser.net.parameters())}

    def memory(self, batch: int, *, training: bool) -> int | None:
        """Bytes of a training batch of the largest backbones; sampling works in bounded parts."""
        length = self.config.data.largest
        if not training or not length:
            return None
        net = cast(FoldingNet, self.build().net)

        def call(net: torch.nn.Module, b: int) -> Any:
            whole = torch.zeros(b, length, dtype=torch.int64, device="meta")
            cond = {
                "coords": torch.zeros(b, length, 4, 3, device="meta"),
                "resolved": whole.bool(), "position": whole, "chain": whole, "given": whole,
            }  # fmt: skip
            return net({"tokens": whole}, torch.zeros(b, device="meta"), {}, cond)

        return state_bytes(net) + int(1.5 * batch * per_example(net, call))

    # -- samples ----------------------------------------------------------------------------------

    def sampler(self, **overrides: Any) -> Chain:
        """The configured sampler; overrides are ``solver``, ``steps``, ``eta`` and ``score``.

        Raises:
            ConfigError: An override is unknown, or the solver does not fit the decoder.
        """
        sample = self.config.sample
        if overrides:
            sample = sample.with_overrides(overrides)
        if sample.solver == "autoregressive":
            if self.config.model.decoder != "causal":
                raise ConfigError(
                    "the solver 'autoregressive' needs a model with decoder 'causal'; this one "
                    "has a full decoder: choose 'first_hitting', which is the same one residue "
                    "at a time if steps is the number of residues"
                )
            return Autoregressive(self.process, sample.score)
        makers: dict[str, Solver] = {
            "first_hitting": FirstHitting(),
            "confident": ConfidentJump(),
            "ancestral": AncestralJump(),
            "remdm": ReMDM(eta=sample.eta),
        }
        times = Times(sample.steps, end=0.0)
        return DesignSampler(self.process, makers[sample.solver], times, sample.score)

    def sizes(self, ids: Tensor, seed: int, **cond: Any) -> Tensor:
        """Tokens of each sample: residues of its backbone, tied ones counted once."""
        asked = requests(cond, ids, self.config.sample.backbone)
        return torch.tensor([r.sites for r in asked], dtype=torch.int64)

    def template(self, ids: Tensor, sizes: Tensor, *, pad: int, **cond: Any) -> State:
        """Masks, backbone and all that is asked, see ``inverse_folding_request``.

        Raises:
            ConfigError: A condition is unknown, or there is no backbone.
            ArgumentError: A chain or residue is not there, or ties contradict each other.
            DataError: A structure cannot be read.
        """
        asked = requests(cond, ids, self.config.sample.backbone)
        degrees = cond.get("temperature")
        degrees = self.config.sample.temperature if degrees is None else degrees
        return given_state(asked, ids, pad, degrees)

    def reward_makers(self) -> Mapping[str, Callable[[str], Reward]]:
        """``stability:NAME``, see :mod:`graphdiff.sequence.stability_reward`."""
        from graphdiff.sequence.stability_reward import StabilityReward

        return {"stability": StabilityReward}

    def item_key(self, item: Any) -> Hashable | None:
        """The sequence itself."""
        return str(item)

    def decode(self, state: State) -> tuple[list[str], Designs]:
        """Sequences, chains separated by ``/``, and the designs with recovery and score."""
        raw = Designs.from_state(state)
        return raw.strings(), raw

    def join(self, raws: Sequence[Designs], order: Sequence[int]) -> Designs:
        """Concatenate designs and reorder them."""
        return join_designs(raws, order)

    def write(self, samples: Samples, out: Path) -> list[Path]:
        """``samples.fasta``, ranked by score, and ``samples.npz``."""
        return write_designs(samples, out)

    def formats(self) -> Mapping[str, str]:
        """Files that hold every sample, by suffix; FASTA is ranked by score."""
        return {".fasta": "samples.fasta", ".fa": "samples.fasta", ".npz": "samples.npz"}

    def convert(self, samples: Samples, kind: str) -> Sequence[Any]:
        """Samples as ``"sequences"``, ``"designs"`` or ``"seqrecord"``."""
        return convert_designs(samples, kind)

    def draw(self, samples: Samples, path: Path, *, count: int = 25) -> Path:
        """The best designs below the native sequence."""
        return draw_designs(samples, path, count=count)


RESIDUES = ("coords", "resolved", "position", "chain", "native", "given", "site")
"""Values of a state by residue, and not by token or by sample."""


def _trimmed(state: State) -> State:
    """Without the padding that all samples share; tokens stay where residues are tied."""
    real = int((state["chain"] >= 0).sum(1).max())
    cut = RESIDUES if "site" in state.values else (*RESIDUES, "tokens")
    values = {k: v[:, :real] if k in cut else v for k, v in state.values.items()}
    masks = {k: m[:, : values[k].shape[1]] for k, m in state.masks.items()}
    return State(values, masks, state.ids)
