"""Small discrete graph models and random noisy graphs for the tests of this folder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graphdiff.core.rng import Key
from graphdiff.graph.defog import DefogTask
from graphdiff.graph.digress import DigressTask
from graphdiff.graph.discrete_task import DiscreteGraphTask

PAIR: dict[str, Any] = {
    "kind": "pair", "layers": 2, "dx": 16, "de": 8, "dy": 8, "heads": 2, "triangles": 2,
    "steps": 4, "count_cycles": True,
}  # fmt: skip
PUBLISHED: dict[str, Any] = {
    "kind": "digress", "layers": 2, "mlp_x": 16, "mlp_e": 8, "mlp_y": 8, "dx": 16, "de": 8,
    "dy": 8, "heads": 2, "ff_x": 16, "ff_e": 8, "ff_y": 8, "steps": 4,
}  # fmt: skip


def config(kind: str = "defog", **changes: Any) -> dict[str, Any]:
    """A small valid configuration of plain graphs; keyword tables are merged into it."""
    base: dict[str, Any] = {
        "kind": kind,
        "seed": 3,
        "data": {
            "name": "comm20", "nodes": 7, "bonds": 1, "sizes": [0, 0, 1, 2, 4, 8, 4, 2],
            "edge_probs": [0.6, 0.4],
        },
        "model": PAIR,
        "sample": {"steps": 4},
    }  # fmt: skip
    for name, value in changes.items():
        merge = isinstance(value, dict) and "kind" not in value
        base[name] = {**base.get(name, {}), **value} if merge else value
    return base


def molecules(**changes: Any) -> dict[str, Any]:
    """Table ``data`` of a model of small molecules."""
    return {
        "name": "qm9", "nodes": 7, "atoms": ["C", "N", "O", "F"], "bonds": 3,
        "sizes": [0, 0, 1, 2, 4, 8, 4, 2], "node_probs": [0.5, 0.2, 0.2, 0.1],
        "edge_probs": [0.7, 0.2, 0.08, 0.02], **changes,
    }  # fmt: skip


def task(kind: str = "defog", **changes: Any) -> DiscreteGraphTask:
    """The task of :func:`config`."""
    maker = DefogTask if kind == "defog" else DigressTask
    return maker.from_config(config(kind, **changes))


def noisy(
    b: int, n: int, nodes: int, edges: int, seed: int = 0
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Random classes ``x`` (if ``nodes``) and ``adj``, masks of every size, and times."""
    key = Key(seed, torch.arange(b))
    mask = torch.arange(n) < (n - torch.arange(b) % n).unsqueeze(1)
    drawn = (key.at(stream=1).uniform(n * n).view(b, n, n) * edges).long().triu(1)
    pair = mask.unsqueeze(1) & mask.unsqueeze(2)
    values, masks = {"adj": (drawn + drawn.mT) * pair}, {"adj": mask}
    if nodes:
        values["x"] = (key.at(stream=2).uniform(n) * nodes).long() * mask
        masks["x"] = mask
    return values, masks, key.at(stream=3).uniform(1, torch.float64).squeeze(1)


def scrambled(net: nn.Module, seed: int = 0, scale: float = 0.3) -> nn.Module:
    """``net`` in float64 with no parameter at zero: what starts at zero would hide its place."""
    generator = torch.Generator().manual_seed(seed)
    net = net.double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(scale * torch.randn(p.shape, dtype=p.dtype, generator=generator))
    return net


def moved(values: dict[str, Tensor], order: Tensor) -> dict[str, Tensor]:
    """Tensors with their nodes in another order; ``adj`` has two axes of nodes."""
    return {
        name: v[:, order][:, :, order] if name == "adj" else v[:, order]
        for name, v in values.items()
    }


def padded(values: dict[str, Tensor], more: int) -> dict[str, Tensor]:
    """Tensors of nodes with ``more`` padded ones behind."""
    pad = nn.functional.pad
    return {
        name: pad(v, (0, more, 0, more)) if name == "adj" and v.ndim == 3 else pad(v, (0, more))
        for name, v in values.items()
    }


def real(values: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    """Outputs ``[b, n, (n,) K]`` with zeros at padding and on the diagonal."""
    n = mask.shape[1]
    pair = mask.unsqueeze(1) & mask.unsqueeze(2) & ~torch.eye(n, dtype=torch.bool)
    keep = {"adj": pair.unsqueeze(-1), "x": mask.unsqueeze(-1)}
    return {name: torch.where(keep[name], v, 0) for name, v in values.items()}


def single(values: dict[str, Tensor], k: int, n: int) -> dict[str, Tensor]:
    """Graph ``k`` of a batch, cut to its first ``n`` nodes."""
    return {
        name: v[k : k + 1, :n, :n] if name == "adj" else v[k : k + 1, :n]
        for name, v in values.items()
    }
