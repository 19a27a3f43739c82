"""What every graph task does with finished samples: items, files, conversions, pictures.

``raw`` is always the uncorrected :class:`graphdiff.data.Graphs`. Molecules that a user holds or
reads from ``samples.smi`` are corrected to valid ones and reduced to their largest fragment, as
the published pipelines do; ``samples.npz`` keeps what the model really made, and evaluation reads
that.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphdiff.core.errors import ArgumentError
from graphdiff.data.graphs import Graphs, concat

if TYPE_CHECKING:
    from graphdiff.core.state import State
    from graphdiff.finetune.reward import Reward
    from graphdiff.task import Samples

__all__ = ["GraphOutput"]

KINDS = ("graphs", "networkx", "pyg", "dgl", "state")
MOLECULE_KINDS = ("rdkit", "smiles", *KINDS)


@dataclass(frozen=True)
class GraphOutput:
    """Results of a task whose nodes are ``atoms``, or plain graphs if there are none."""

    atoms: tuple[str, ...] = ()

    def items(self, raw: Graphs) -> list[Any]:
        """Corrected RDKit molecules, or networkx graphs."""
        if not self.atoms:
            return raw.to_networkx()
        from graphdiff.graph.molecules import correct, largest_fragment, to_molecules

        return [largest_fragment(correct(mol)) for mol in to_molecules(raw, self.atoms)]

    def scores(self) -> Mapping[str, Callable[[Any], float]]:
        """Scores of an item by name."""
        from graphdiff.graph.rewards import GRAPH_SCORES, MOLECULE_SCORES

        return MOLECULE_SCORES if self.atoms else GRAPH_SCORES

    def reward_makers(
        self, quantise: Callable[[State], Graphs]
    ) -> Mapping[str, Callable[[str], Reward]]:
        """``valid`` for molecules: no score of an item, since items are corrected."""
        from graphdiff.graph.rewards import Valid

        def make(text: str) -> Reward:
            if text:
                raise ArgumentError(f"the reward 'valid' takes no name, found 'valid:{text}'")
            return Valid(quantise, self.atoms)

        return {"valid": make} if self.atoms else {}

    def key(self, item: Any) -> Hashable | None:
        """What equal items share."""
        from graphdiff.graph.rewards import graph_key, molecule_key

        return molecule_key(item) if self.atoms else graph_key(item)

    def join(self, raws: Sequence[Graphs], order: Sequence[int]) -> Graphs:
        """Concatenate packed graphs and reorder them."""
        return concat(raws)[np.asarray(order, dtype=np.int64)]

    def write(self, samples: Samples, out: Path) -> list[Path]:
        """Write the samples under ``out`` and return the files.

        ``samples.npz`` holds the raw graphs and the element symbols; molecules add ``samples.smi``
        (SMILES and id) and ``samples.sdf``, other graphs ``samples.graphml``.
        """
        out.mkdir(parents=True, exist_ok=True)
        files = [samples.raw.save(out / "samples.npz")]
        files += self._molecules(samples, out) if self.atoms else self._graphs(samples, out)
        return files

    def formats(self) -> Mapping[str, str]:
        """Files that hold every sample, by suffix."""
        own = (".smi", ".sdf") if self.atoms else (".graphml",)
        return {suffix: f"samples{suffix}" for suffix in (*own, ".npz")}

    def _molecules(self, samples: Samples, out: Path) -> list[Path]:
        from rdkit import Chem

        from graphdiff.graph.molecules import to_smiles

        table = out / "samples.smi"
        lines = [
            f"{to_smiles(m) or ''} {k}\n" for k, m in zip(samples.ids, samples.items, strict=True)
        ]
        table.write_text("".join(lines), encoding="utf-8")
        structures = out / "samples.sdf"
        with Chem.SDWriter(str(structures)) as writer:
            for k, mol in zip(samples.ids, samples.items, strict=True):
                mol.SetProp("_Name", str(k))
                writer.write(mol)
        return [table, structures]

    def _graphs(self, samples: Samples, out: Path) -> list[Path]:
        import networkx as nx

        path = out / "samples.graphml"
        with path.open("wb") as file:
            union = nx.disjoint_union_all(list(samples.items)) if samples.items else nx.Graph()
            owner = np.repeat(np.asarray(samples.ids, dtype=np.int64), samples.raw.num_nodes)
            nx.set_node_attributes(union, dict(enumerate(owner.tolist())), "sample")
            nx.write_graphml(union, file)
        return [path]

    def convert(self, samples: Samples, kind: str) -> Sequence[Any]:
        """Samples as another type.

        ``"rdkit"`` and ``"smiles"`` are corrected molecules; every other kind is raw: ``"graphs"``
        (packed), ``"networkx"``, ``"pyg"``, ``"dgl"`` and ``"state"`` (one-sample states).

        Raises:
            ArgumentError: ``kind`` is unknown.
        """
        from graphdiff.graph import convert

        known = MOLECULE_KINDS if self.atoms else KINDS
        if kind not in known:
            raise ArgumentError(f"cannot convert samples to {kind!r}; choose {', '.join(known)}")
        if kind == "rdkit":
            return list(samples.items)
        if kind == "smiles":
            from graphdiff.graph.molecules import to_smiles

            return [to_smiles(mol) or "" for mol in samples.items]
        if kind == "graphs":
            return list(samples.raw)
        makers = {
            "networkx": convert.to_networkx,
            "pyg": convert.to_pyg,
            "dgl": convert.to_dgl,
            "state": convert.to_states,
        }
        return list(makers[kind](samples.raw))

    def draw(self, samples: Samples, path: Path, *, count: int = 25) -> Path:
        """A grid of the first ``count`` samples as PNG."""
        from graphdiff.graph.draw import draw_graphs, draw_molecules

        items = list(samples.items[:count])
        return draw_molecules(items, path) if self.atoms else draw_graphs(items, path)
