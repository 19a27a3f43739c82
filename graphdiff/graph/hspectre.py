r"""HSpectre: graphs by iterative local expansion (Bergmeister et al., ICLR 2024, 2312.11529).

A graph is grown from one node. A level splits some nodes in two, puts all candidate edges between
the children of adjacent nodes, and decides by discrete diffusion which of them exist and which
children will be split next; :mod:`graphdiff.graph.expansion.level` says what the decisions are.
Memory and time are those of the candidate edges: linear in the edges of the graph.

In terms of the core a level is a product of two :class:`Absorbing` chains on one clock: ``e``, one
token for each coarse edge with several candidates, and ``v``, whether a child is split. Training
takes one level of a random coarsening sequence and minimises the mean cross-entropy of the hidden
tokens of both, which is their evidence bound for each token (:math:`\alpha = 1 - t`):

.. math:: E_{t \sim U[0, 1]}\; \frac{1}{|H_e|} \sum_{s \in H_e} -\log p(e_s \mid x_t)
          + \frac{1}{|H_v|} \sum_{i \in H_v} -\log p(v_i \mid x_t).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter

from graphdiff.core.denoiser import Denoiser
from graphdiff.core.errors import ConfigError
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.data.graphs import Graphs
from graphdiff.graph.expansion.config import HSpectreConfig
from graphdiff.graph.expansion.dataset import ExpansionData, unpack
from graphdiff.graph.expansion.memory import batch_bytes
from graphdiff.graph.expansion.sampler import ExpansionSampler, build_process, parametrizations
from graphdiff.graph.nets.expansion import ExpansionNetwork
from graphdiff.graph.output import GraphOutput
from graphdiff.graph.sizes import draw_sizes, given_sizes
from graphdiff.task import Data, Samples, Task

__all__ = ["HSpectreTask"]


@dataclass(frozen=True)
class HSpectreTask(Task):
    """Iterative local expansion on one data set; see the module docstring."""

    config: HSpectreConfig
    kind: ClassVar[str] = "hspectre"
    title: ClassVar[str] = "HSpectre: graph generation by iterative local expansion"
    citation: ClassVar[str] = """@inproceedings{bergmeister2024efficient,
  title     = {Efficient and Scalable Graph Generation through Iterative Local Expansion},
  author    = {Bergmeister, Andreas and Martinkus, Karolis and Perraudin, Nathana{\\"e}l and
               Wattenhofer, Roger},
  booktitle = {International Conference on Learning Representations},
  year      = {2024}
}"""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "config") -> HSpectreTask:
        """Validate a plain mapping; errors name the full path of the key."""
        from graphdiff.config import validate

        return cls(validate(HSpectreConfig, config, where=where))

    def to_config(self) -> dict[str, Any]:
        """The plain mapping that :meth:`from_config` accepts."""
        return asdict(self.config)

    def build(self) -> Denoiser:
        """A freshly initialised denoiser; the global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            net = ExpansionNetwork(**asdict(self.config.model))
        return Denoiser(net, build_process(), parametrizations())

    def data(self, root: str | Path | None = None) -> ExpansionData:
        """The levels of the coarsening sequences of the training split."""
        from graphdiff.data import load

        c = self.config
        dataset = load(c.data.name, root)
        return ExpansionData(
            dataset.split(c.data.split), c.coarsening, modes=c.model.modes, seed=c.seed,
            fingerprint=dataset.fingerprint(c.data.split),
        )  # fmt: skip

    def losses(self, denoiser: Denoiser, clean: State, key: Key) -> dict[str, Tensor]:
        """``e`` and ``v`` ``[b]``: mean cross-entropy of the hidden tokens of each level."""
        level = unpack(clean)
        parts = {name: clean[name] for name in ("e", "v")}
        real = {name: clean.masks[name] for name in parts}
        x0 = State(parts, real, clean.ids)
        t = key.at(stream="time").uniform(1).squeeze(1)
        noisy = denoiser.process.corrupt(x0, t, key)
        return denoiser.process.loss(denoiser(noisy, t, level), x0, noisy, t)

    def groups(self, denoiser: Denoiser) -> dict[str, list[Parameter]]:
        """One group."""
        return {"net": list(denoiser.net.parameters())}

    def prepared(self, data: Data) -> HSpectreTask:
        """Carries node counts and mean degree of the data into the card."""
        if not isinstance(data, ExpansionData):
            return self
        return HSpectreTask(self.config.with_facts(data.sizes, data.degree))

    def memory(self, batch: int, *, training: bool) -> int | None:
        """Bytes for a training batch of the last level of the largest training graphs.

        A sampler knows the sizes it is asked for and refuses by itself.
        """
        c = self.config
        if not training:
            return None
        nodes = batch * (len(c.data.sizes) - 1)
        return int(batch_bytes(nodes, c.data.degree, c.model, training=True))

    def sampler(self, **overrides: Any) -> ExpansionSampler:
        """The configured sampler; overrides are the fields of :class:`SampleConfig`."""
        c = self.config
        sample = c.sample.with_overrides(overrides) if overrides else c.sample
        return ExpansionSampler(
            sample.steps, c.coarsening.low, c.coarsening.high, c.model,
            max(len(c.data.sizes) - 1, 1), c.data.degree, sample.memory,
            sample.order == "confident", sample.jitter, sample.keep,
            1 if sample.keep == "any" else sample.tries,
        )  # fmt: skip

    def sizes(self, ids: Tensor, seed: int, **cond: Any) -> Tensor:
        """Node counts: ``size`` (one, or one for each id, of any size), or those of training."""
        if unknown := sorted(set(cond) - {"size"}):
            raise ConfigError(
                f"the expansion model takes the condition size only, found {', '.join(unknown)}"
            )
        if cond.get("size") is not None:
            return given_sizes(cond["size"], len(ids), None)
        return draw_sizes(self.config.data.sizes, ids, seed)

    def template(self, ids: Tensor, sizes: Tensor, *, pad: int, **cond: Any) -> State:
        """The sizes that are asked for: ``size`` ``[b]``; nothing is padded."""
        return State({"size": sizes.to(ids.device).clone()}, {}, ids)

    # -- results ------------------------------------------------------------------------------

    def scores(self) -> Mapping[str, Callable[[Any], float]]:
        """Scores of molecules or graphs, see :mod:`graphdiff.graph.rewards`."""
        return GraphOutput().scores()

    def item_key(self, item: Any) -> Hashable | None:
        """Canonical SMILES, or the edges of a graph."""
        return GraphOutput().key(item)

    def decode(self, state: State) -> tuple[list[Any], Graphs]:
        """Graphs of networkx, and the packed graphs."""
        sizes, edges, mask = (
            x.cpu() for x in (state["size"], state["edges"], state.masks["edges"])
        )
        lists = [e[m].numpy() for e, m in zip(edges, mask, strict=True)]
        raw = Graphs.from_lists(sizes.numpy(), lists)
        return raw.to_networkx(), raw

    def join(self, raws: Sequence[Graphs], order: Sequence[int]) -> Graphs:
        """Concatenate packed graphs and reorder them."""
        return GraphOutput().join(raws, order)

    def write(self, samples: Samples, out: Path) -> list[Path]:
        """``samples.graphml`` and ``samples.npz``."""
        return GraphOutput().write(samples, out)

    def convert(self, samples: Samples, kind: str) -> Sequence[Any]:
        """Samples as ``"networkx"``, ``"pyg"``, ``"dgl"``, ``"graphs"`` or ``"state"``."""
        return GraphOutput().convert(samples, kind)

    def draw(self, samples: Samples, path: Path, *, count: int = 25) -> Path:
        """A grid of graphs as PNG."""
        return GraphOutput().draw(samples, path, count=count)
