r"""LGGM: one generative model of graphs from many domains (Wang et al., ICLR 2025, 2406.05109).

The chain and the loss are those of DiGress or DeFoG on plain graphs (:math:`adj` only, edge or no
edge). New are the corpus, subgraphs of networks of a dozen and more domains, drawn so that every
domain is seen as often as any other, and text-to-graph generation: the embedding :math:`c` of a
prompt, which tells the domain or statistics of a graph, is added to the graph stream of the
network, hidden in a tenth of the examples, and can be followed more closely with classifier-free
guidance,

.. math:: \mathrm{logits}_w = \mathrm{logits}(\varnothing) +
    w\,(\mathrm{logits}(c) - \mathrm{logits}(\varnothing)).

The number of nodes follows the domain that the prompt is closest to in meaning, or all domains
alike where a prompt names none.

A model trained on all domains but some (``data.holdout``) generates for these zero-shot, and is
fine-tuned on them by a training that starts from its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from graphdiff.core.denoiser import Denoiser
from graphdiff.core.errors import ArgumentError, ConfigError
from graphdiff.core.guidance import ClassifierFree
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.graph.discrete import (
    blank,
    build_denoiser,
    build_network,
    cross_entropies,
)
from graphdiff.graph.discrete_config import DiscreteConfig
from graphdiff.graph.discrete_task import GraphTask
from graphdiff.graph.lggm_config import LggmConfig
from graphdiff.graph.lggm_data import CorpusGraphs, PromptBank, nearest_domain, prompt_bank
from graphdiff.graph.sizes import draw_sizes, given_sizes
from graphdiff.graph.text import embed, make_encoder
from graphdiff.task import Data

__all__ = ["LggmTask"]

WIDTH = 64
"""Length of the vector that a prompt becomes in the graph stream."""


@dataclass(frozen=True)
class LggmTask(GraphTask):
    """Graphs of many domains, with or without prompts; see the module docstring."""

    config: LggmConfig
    kind: ClassVar[str] = "lggm"
    title: ClassVar[str] = "LGGM: a large graph generative model over domains"
    citation: ClassVar[str] = """@inproceedings{wang2025lggm,
  title     = {A Large-scale Training Paradigm for Graph Generative Models},
  author    = {Wang, Yu and Rossi, Ryan A. and Park, Namyong and Chen, Huiyuan and
               Ahmed, Nesreen K. and Trivedi, Puja and Dernoncourt, Franck and Koutra, Danai and
               Derr, Tyler},
  booktitle = {International Conference on Learning Representations},
  year      = {2025}
}"""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "config") -> LggmTask:
        """Validate a plain mapping; errors name the full path of the key."""
        from graphdiff.config import validate

        return cls(validate(LggmConfig, config, where=where))

    @property
    def discrete(self) -> DiscreteConfig:
        """The chain without corpus and prompts."""
        return self.config.discrete()

    @property
    def prompted(self) -> bool:
        """Whether the model understands prompts."""
        return self.config.text.encoder != "none"

    def build(self) -> Denoiser:
        """A freshly initialised denoiser; the global generator is left as it was."""
        from graphdiff.graph.nets.prompted import Prompted

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            net = build_network(self.discrete, cond=WIDTH if self.prompted else 0)
            if self.prompted:
                dim = make_encoder(self.config.text.encoder).dim
                net = ClassifierFree(Prompted(net, dim, WIDTH))
        return build_denoiser(self.discrete, net)

    def data(self, root: str | Path | None = None) -> CorpusGraphs:
        """The chosen graphs of the corpus."""
        return CorpusGraphs.load(self.config.data, root)

    def prepared(self, data: Data) -> LggmTask:
        """Carries domains, node counts, edge frequencies and terciles into the card."""
        if not isinstance(data, CorpusGraphs):
            return self
        facts = (data.domains, data.sizes, data.edge_probs, data.terciles)
        return LggmTask(self.config.with_facts(*facts))

    def losses(self, denoiser: Denoiser, clean: State, key: Key) -> dict[str, Tensor]:
        """Mean cross-entropy of the pairs; each graph is described in random words."""
        told = {"adj": clean["adj"]}
        if self.prompted:
            told |= self._describe(clean, key)
        state = State(told, {"adj": clean.masks["adj"]}, clean.ids)
        return cross_entropies(self.discrete, denoiser, state, key)

    def unknown_words(self, prompt: str) -> list[str]:
        """Words that the text encoder does not know; it must be able to tell."""
        if not self.prompted:
            return []
        unknown = getattr(make_encoder(self.config.text.encoder), "unknown", None)
        return [] if unknown is None else list(unknown(prompt))

    def _describe(self, clean: State, key: Key) -> dict[str, Tensor]:
        """Embedding of a prompt for each graph, and whether the network is shown it."""
        text = self.config.text
        levels = clean["levels"].cpu().numpy()
        domains = [self.config.data.present[i] for i in clean["domain"].tolist()]
        vectors = self._bank().draw(domains, levels, key, text.kinds)
        shown = key.at(stream="told").uniform(1).squeeze(1) >= text.drop
        return {"text": vectors.to(clean.device), "told": shown}

    def _bank(self) -> PromptBank:
        text = self.config.text
        return prompt_bank(text.encoder, self.config.data.present, text.variants)

    def sizes(self, ids: Tensor, seed: int, **cond: Any) -> Tensor:
        """Node counts: as given, of the domain, or of the domain that the prompt names.

        Args:
            ids: Sample ids.
            seed: Seed of the draw.
            **cond: ``size``, ``domain`` or ``prompt``, one for all samples or one for each; the
                first that is there decides.

        Raises:
            ArgumentError: A domain is unknown, or a size is out of range.
        """
        size, domain, prompt = (cond.get(name) for name in ("size", "domain", "prompt"))
        if size is not None:
            return given_sizes(size, len(ids), self.config.data.nodes)
        asked = domain if domain is not None else prompt
        if asked is None:
            return draw_sizes(self.discrete.data.sizes, ids, seed)
        each = [asked] * len(ids) if isinstance(asked, str) else list(asked)
        rows = {text: self._histogram(text, is_domain=domain is not None) for text in set(each)}
        out = torch.empty_like(ids)
        for text, row in rows.items():
            place = torch.tensor([t == text for t in each])
            out[place] = draw_sizes(row, ids[place], seed)
        return out

    def _histogram(self, text: str, *, is_domain: bool) -> Sequence[int]:
        data = self.config.data
        name: str | None = text
        if not is_domain:
            name = nearest_domain(text, self._bank())
        elif text not in data.present:
            raise ArgumentError(
                f"the model knows no domain {text!r}: choose from {', '.join(data.present)}"
            )
        return self.discrete.data.sizes if name is None else data.sizes[data.present.index(name)]

    def template(self, ids: Tensor, sizes: Tensor, *, pad: int, **cond: Any) -> State:
        """Zeros ``adj [b, pad, pad]`` with masks, and the embeddings of the prompts.

        Args:
            ids: Sample ids.
            sizes: Node counts.
            pad: Nodes to pad to.
            **cond: ``prompt`` (one, or one for each sample), ``guidance`` (weight), and ``domain``
                and ``size``, which :meth:`sizes` reads. A domain without a prompt is its own
                prompt.

        Raises:
            ConfigError: A condition is unknown, or the model understands no prompts.
        """
        if unknown := sorted(set(cond) - {"prompt", "domain", "size", "guidance"}):
            raise ConfigError(
                f"lggm takes prompt, domain, size and guidance, found {', '.join(unknown)}"
            )
        state = blank(ids, sizes, pad, atoms=False)
        prompt = cond.get("prompt")
        if prompt is None and not self.prompted:
            return state
        if not self.prompted:
            raise ConfigError(
                "this model was trained without prompts (text.encoder = 'none'); leave the prompt "
                "out, or take a model that was trained with them, such as 'lggm'"
            )
        domain = cond.get("domain")
        said = self._bank().phrase(domain) if prompt is None and domain is not None else prompt
        if said is None:
            return state
        texts = [said] * len(ids) if isinstance(said, str) else list(said)
        unique = sorted(set(texts))
        rows = torch.from_numpy(embed(make_encoder(self.config.text.encoder), unique))
        text = rows[torch.tensor([unique.index(t) for t in texts])].to(ids.device)
        weight = cond.get("guidance")
        weight = self.config.text.guidance if weight is None else weight
        scale = torch.as_tensor(weight, dtype=torch.float32).expand(len(ids)).to(ids.device)
        told = {"text": text}
        if bool((scale != 1).any()):  # 1 is the plain conditional model: no second evaluation
            told["guidance"] = scale
        return state.replace(**told)
