"""Published GDSS checkpoints (harryjo97/GDSS) as graphdiff models.

A published file is a dictionary with ``model_config``, ``params_x``, ``params_adj``,
``x_state_dict`` and ``adj_state_dict`` (and ``ema_x``, ``ema_adj`` for graphs without elements).
It is read with ``weights_only=True``: the original ``.pth`` files hold a pickled ``EasyDict``, that
is code, and must be saved again as plain dictionaries by someone who trusts them.

Shapes are checked before anything is written. The published edge network carries the value
weights of its last layer, whose output nothing reads; they are the only ones left behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graphdiff.core.errors import CheckpointError, ConfigError, DataError
from graphdiff.graph.gdss import GDSSTask
from graphdiff.graph.gdss_config import MOLECULES
from graphdiff.graph.nets.gdss import (
    AttentionLayer,
    EdgeNetwork,
    GDSSNetwork,
    NodeNetwork,
    NodeNetworkGMH,
)

__all__ = ["convert", "load_published", "node_count_histogram", "task_config"]

PARTS = ("model_config", "params_x", "params_adj", "x_state_dict", "adj_state_dict")
NODE_KINDS = {"ScoreNetworkX": "gcn", "ScoreNetworkX_GMH": "gmh"}
NAMES = {"QM9": "qm9", "ZINC250k": "zinc250k", "ENZYMES": "enzymes"}

SAMPLERS: dict[str, dict[str, Any]] = {
    "qm9": {"solver": "pc", "predictor": "reverse", "snr": 0.2, "scale": 0.7},
    "zinc250k": {"solver": "pc", "predictor": "reverse", "snr": 0.2, "scale": 0.9},
}
"""Published sampler settings of the data sets whose checkpoints do not carry them."""


def load_published(path: str | Path) -> dict[str, Any]:
    """Read a published checkpoint without running code from it.

    Raises:
        CheckpointError: The file is missing, damaged, a pickle, or not a GDSS checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no file {path}: give the path of a published GDSS checkpoint")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many unrelated classes here
        raise CheckpointError(
            f"{path} cannot be read as plain tensors and numbers ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:160]}); it is damaged, or it pickles code such as "
            "EasyDict: save it again as plain dictionaries in an environment that you trust"
        ) from None
    if not isinstance(found, dict) or any(part not in found for part in PARTS):
        keys = ", ".join(map(str, found)) if isinstance(found, dict) else type(found).__name__
        raise CheckpointError(
            f"{path} is not a GDSS checkpoint: found {keys or 'nothing'}, expected a dictionary "
            f"with {', '.join(PARTS)}"
        )
    for part in PARTS:
        if not isinstance(found[part], dict):
            raise CheckpointError(
                f"{path}: {part} is {type(found[part]).__name__}, expected a dict"
            )
    return found


def task_config(found: Mapping[str, Any]) -> dict[str, Any]:
    """The graphdiff configuration of a published checkpoint, without node counts.

    Raises:
        CheckpointError: A network kind or a setting is missing or has no counterpart here.
    """
    try:
        outer, px, pa = found["model_config"], found["params_x"], found["params_adj"]
        if px["model_type"] not in NODE_KINDS or pa["model_type"] != "ScoreNetworkA":
            raise CheckpointError(
                f"networks {px['model_type']!r} and {pa['model_type']!r}: expected one of "
                f"{', '.join(NODE_KINDS)} and ScoreNetworkA"
            )
        if pa["conv"] != "GCN" or px.get("conv", "GCN") != "GCN":
            raise CheckpointError(
                f"attention of kind {pa['conv']!r}: expected 'GCN', the only one in the paper"
            )
        _same_shape(px, pa)
        name = NAMES.get(outer["data"]["data"], outer["data"]["data"])
        atoms = MOLECULES.get(name, ()) if outer["data"]["init"] == "atom" else ()
        return {
            "kind": "gdss",
            "seed": int(outer["seed"]),
            "data": {
                "name": name,
                "nodes": int(pa["max_node_num"]),
                "features": int(px["max_feat_num"]),
                "atoms": list(atoms),
            },
            "x": _sde(outer["sde"]["x"]),
            "adj": _sde(outer["sde"]["adj"]),
            "model": {
                "node": NODE_KINDS[px["model_type"]],
                "depth": int(px["depth"]),
                "hidden": int(pa["nhid"]),
                "layers": int(pa["num_layers"]),
                "linears": int(pa["num_linears"]),
                "channels": [int(pa[k]) for k in ("c_init", "c_hid", "c_final")],
                "attention": int(pa["adim"]),
                "heads": int(pa["num_heads"]),
            },
            "sample": _sample(name, outer),
            "t_min": float(outer["train"]["eps"]),
        }
    except KeyError as error:
        raise CheckpointError(
            f"the checkpoint lacks the setting {error}; expected the model_config, params_x and "
            "params_adj that the published training code saves"
        ) from None


def _same_shape(px: Mapping[str, Any], pa: Mapping[str, Any]) -> None:
    shared = (
        "nhid",
        "max_feat_num",
        "num_linears",
        "c_init",
        "c_hid",
        "c_final",
        "adim",
        "num_heads",
    )
    for key in shared:
        if key in px and px[key] != pa[key]:
            raise CheckpointError(
                f"the two networks differ in {key} ({px[key]} and {pa[key]}); the published "
                "configurations share it, and so does this model"
            )


def _sde(sde: Mapping[str, Any]) -> dict[str, Any]:
    kind = {"VP": "VP", "VE": "VE", "subVP": "SubVP"}.get(sde["type"])
    if kind is None:
        raise CheckpointError(f"SDE of type {sde['type']!r}: expected VP, VE or subVP")
    return {"kind": kind, "low": float(sde["beta_min"]), "high": float(sde["beta_max"])}


def _sample(name: str, outer: Mapping[str, Any]) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "steps": int(outer["sde"]["adj"]["num_scales"]),
        "end": float(outer.get("sample", {}).get("eps", 1e-4)),
    }
    sampler = outer.get("sampler")
    if sampler is None:
        return {**chosen, **SAMPLERS.get(name, {})}
    predictor = {"Euler": "euler", "Reverse": "reverse"}.get(sampler["predictor"], "euler")
    return {
        **chosen,
        "solver": "s4" if sampler["predictor"] == "S4" else "pc",
        "predictor": predictor,
        "corrector": "langevin" if sampler["corrector"] == "Langevin" else "none",
        "snr": float(sampler["snr"]),
        "scale": float(sampler["scale_eps"]),
    }


def _stack(state: Mapping[str, Tensor], layer: int, part: str, channels: int) -> Tensor:
    return torch.stack([state[f"layers.{layer}.attn.{c}.{part}"] for c in range(channels)])


def _mlp(state: Mapping[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    prefix = f"{old}.linears."
    moved = {
        f"{new}.layers.{k[len(prefix) :]}": v for k, v in state.items() if k.startswith(prefix)
    }
    single = f"{old}.linear."  # an MLP of one layer has its own name in the published code
    moved |= {
        f"{new}.layers.0.{k[len(single) :]}": v for k, v in state.items() if k.startswith(single)
    }
    return moved


def _attention(state: Mapping[str, Tensor], k: int, layer: AttentionLayer) -> dict[str, Tensor]:
    c, at = layer.channels_in, f"layers.{k}"
    found: dict[str, Tensor] = {}
    wanted = [("query", "gnn_q"), ("key", "gnn_k")] if layer.has_edges else []
    wanted += [("value", "gnn_v")] if layer.has_nodes else []
    for new, old in wanted:
        found[f"{at}.{new}"] = _stack(state, k, f"{old}.weight", c)
        found[f"{at}.{new}_bias"] = _stack(state, k, f"{old}.bias", c)
    if layer.has_edges:
        found |= _mlp(state, f"{at}.mlp", f"{at}.edge_mlp")
    if layer.has_nodes:
        found |= _mlp(state, f"{at}.multi_channel", f"{at}.node_mlp")
    return found


def _translate(net: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names for the published parameters of one network."""
    found = _mlp(state, "final", "final")
    if isinstance(net, NodeNetwork):
        found |= {
            k.replace("layers.", "convs."): v for k, v in state.items() if k.startswith("layers.")
        }
        return found
    assert isinstance(net, EdgeNetwork | NodeNetworkGMH)
    for k, layer in enumerate(net.layers):
        assert isinstance(layer, AttentionLayer)
        found |= _attention(state, k, layer)
    return found


def _ema_state(
    state: Mapping[str, Tensor], ema: Mapping[str, Any], which: str
) -> dict[str, Tensor]:
    """A published EMA keeps a bare list in the order of the parameters; give it their names."""
    shadow = ema.get("shadow_params")
    names = [name for name, value in state.items() if isinstance(value, Tensor)]
    if not isinstance(shadow, list) or [tuple(s.shape) for s in shadow] != [
        tuple(state[name].shape) for name in names
    ]:
        raise CheckpointError(
            f"{which}: the averaged parameters do not match the {len(names)} parameters of the "
            "network in number and shape; the file is damaged or mixes two models"
        )
    return dict(zip(names, shadow, strict=True))


def _load(net: nn.Module, state: Mapping[str, Tensor], which: str) -> dict[str, Tensor]:
    state = {k.removeprefix("module."): v for k, v in state.items()}  # saved by DataParallel
    try:
        ours = _translate(net, state)
    except KeyError as error:
        raise CheckpointError(f"{which} lacks the parameter {error}; the file is damaged") from None
    expected = net.state_dict()
    for name in sorted(set(expected) | set(ours)):
        want = tuple(expected[name].shape) if name in expected else None
        have = tuple(ours[name].shape) if name in ours else None
        if want != have:
            raise CheckpointError(
                f"{which}: parameter {name} has shape {have}, expected {want} from the settings "
                "in the file; the file is damaged or was edited"
            )
    return ours


def node_count_histogram(config: Mapping[str, Any], root: str | Path | None = None) -> list[int]:
    """How many graphs of the training split have 0, 1, 2 .. nodes.

    Raises:
        DataError: The data set is not on this machine.
    """
    from graphdiff.data import load

    data = config["data"]
    try:
        sizes = load(data["name"], root).split(data.get("split", "train")).num_nodes
    except (DataError, ConfigError) as error:
        raise DataError(
            f"a published checkpoint does not say how many nodes its graphs have, and the data set "
            f"{data['name']!r} that knows is not here: {error}"
        ) from None
    counts = torch.bincount(torch.as_tensor(sizes).long())
    return [int(c) for c in counts[: data["nodes"] + 1]]


def convert(path: str | Path, out: str | Path, root: str | Path | None = None) -> Path:
    """Turn a published GDSS checkpoint into a graphdiff model folder.

    Args:
        path: File saved by the published training code, as plain dictionaries.
        out: Folder to write; it loads with :func:`graphdiff.load`.
        root: Where data sets are, for the node counts; see :func:`graphdiff.data.load`.

    Raises:
        CheckpointError: The file is damaged, foreign, or of a model without counterpart here.
        DataError: The data set with the node counts is not on this machine.
    """
    found = load_published(path)
    config = task_config(found)
    try:
        task = GDSSTask.from_config(config, where=str(path))
    except ConfigError as error:
        raise CheckpointError(f"{path} holds settings that no GDSS model has: {error}") from None
    denoiser = task.build()
    assert isinstance(denoiser.net, GDSSNetwork)
    weights: dict[str, Tensor] = {}
    ema: dict[str, Tensor] = {}
    for part, net in (("x", denoiser.net.x), ("adj", denoiser.net.adj)):
        state = found[f"{part}_state_dict"]
        ours = _load(net, state, f"{path}: {part}_state_dict")
        weights |= {f"net.{part}.{k}": v for k, v in ours.items()}
        if f"ema_{part}" in found:
            shadow = _ema_state(state, found[f"ema_{part}"], f"{path}: ema_{part}")
            averaged = _load(net, shadow, f"{path}: ema_{part}")
            ema |= {f"net.{part}.{k}": v for k, v in averaged.items()}
    task = GDSSTask(task.config.with_sizes(tuple(node_count_histogram(config, root))))
    use_ema = bool(found["model_config"].get("sample", {}).get("use_ema", False))
    return _save(task, weights, ema if use_ema else {}, Path(path), Path(out))


def _save(
    task: GDSSTask, weights: dict[str, Tensor], ema: dict[str, Tensor], path: Path, out: Path
) -> Path:
    from graphdiff.train.checkpoint import Card, save_model

    card = Card(
        kind=task.kind,
        task=task.to_config(),
        seed=task.config.seed,
        citation=task.citation,
        command=f"graphdiff convert gdss {path.name} {out.name}",
        licence="unknown: weights published by the authors of GDSS without a licence",
    )
    save_model(out, weights, card, ema=ema or None, overwrite=True)
    return out
