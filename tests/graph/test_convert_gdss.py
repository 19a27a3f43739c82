"""Published GDSS checkpoints: every shape converts, and broken files are named."""

from __future__ import annotations

import itertools
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from gdss_support import noisy, plain
from torch import Tensor

from graphdiff.core.errors import CheckpointError, DataError
from graphdiff.core.rng import Key
from graphdiff.data import Dataset, Graphs
from graphdiff.graph.convert_gdss import convert, load_published, task_config

PUBLISHED = Path(os.environ.get("GRAPHDIFF_DATA", "")) / "graphgen" / "gdss_checkpoints_safe"
needs_weights = pytest.mark.skipif(
    not PUBLISHED.is_dir(), reason="published GDSS weights are not under GRAPHDIFF_DATA"
)


class Maker:
    """Writes random weights in the published layout, layer by layer, as its code names them."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.state: dict[str, Tensor] = {}

    def put(self, name: str, *shape: int) -> None:
        self.state[name] = 0.4 * torch.randn(shape, generator=self.generator)

    def mlp(self, name: str, *sizes: int) -> None:
        if len(sizes) == 2:
            self.put(f"{name}.linear.weight", sizes[1], sizes[0])
            self.put(f"{name}.linear.bias", sizes[1])
            return
        for k, (a, b) in enumerate(itertools.pairwise(sizes)):
            self.put(f"{name}.linears.{k}.weight", b, a)
            self.put(f"{name}.linears.{k}.bias", b)

    def conv(self, name: str, a: int, b: int) -> None:
        self.put(f"{name}.weight", a, b)
        self.put(f"{name}.bias", b)

    def attention(self, p: dict[str, Any], depth: int) -> None:
        for k in range(depth):
            features = p["max_feat_num"] if k == 0 else p["nhid"]
            width = p["nhid"] if k == 0 else p["adim"]
            c = p["c_init"] if k == 0 else p["c_hid"]
            o = p["c_final"] if 0 < k == depth - 1 else p["c_hid"]
            hidden = 2 * max(c, o)
            for i in range(c):
                self.conv(f"layers.{k}.attn.{i}.gnn_q", features, width)
                self.conv(f"layers.{k}.attn.{i}.gnn_k", features, width)
                self.conv(f"layers.{k}.attn.{i}.gnn_v", features, p["nhid"])
            self.mlp(f"layers.{k}.mlp", 2 * c, *[hidden] * (p["num_linears"] - 1), o)
            self.mlp(f"layers.{k}.multi_channel", c * p["nhid"], hidden, p["nhid"])


def checkpoint(
    gmh: bool = False, depth: int = 2, layers: int = 3, hidden: int = 8, linears: int = 2,
    ema: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """A checkpoint in the published format with random weights."""
    pa: dict[str, Any] = {
        "model_type": "ScoreNetworkA", "max_feat_num": 4, "max_node_num": 9, "nhid": hidden,
        "num_layers": layers, "num_linears": linears, "c_init": 2, "c_hid": 4, "c_final": 3,
        "adim": 12, "num_heads": 4, "conv": "GCN",
    }  # fmt: skip
    px: dict[str, Any] = {
        "model_type": "ScoreNetworkX",
        "max_feat_num": 4,
        "depth": depth,
        "nhid": hidden,
    }
    edge, node = Maker(), Maker()
    edge.attention(pa, layers)
    width = pa["c_init"] + pa["c_hid"] * (layers - 1) + pa["c_final"]
    edge.mlp("final", width, 2 * width, 2 * width, 1)
    if gmh:
        shared = ("nhid", "num_linears", "c_init", "c_hid", "c_final", "adim", "num_heads", "conv")
        px = {"model_type": "ScoreNetworkX_GMH", "max_feat_num": 4, "depth": depth} | {
            k: pa[k] for k in shared
        }
        node.attention({**pa, **px}, depth)
    else:
        for k in range(depth):
            node.conv(f"layers.{k}", 4 if k == 0 else hidden, hidden)
    width = 4 + depth * hidden
    node.mlp("final", width, 2 * width, 2 * width, 4)
    sde = {"type": "VE", "beta_min": 0.1, "beta_max": 1.0, "num_scales": 1000}
    found: dict[str, Any] = {
        "model_config": {
            "data": {"data": "QM9", "init": "atom"}, "sde": {"x": sde, "adj": sde},
            "train": {"eps": 1e-5}, "seed": 42,
        },
        "params_x": px, "params_adj": pa,
        "x_state_dict": node.state, "adj_state_dict": edge.state,
    }  # fmt: skip
    if ema:
        found["model_config"]["sample"] = {"use_ema": True, "eps": 1e-4}
        for part in ("x", "adj"):
            shadow = [v + 1 for v in found[f"{part}_state_dict"].values()]
            found[f"ema_{part}"] = {"decay": 0.999, "num_updates": 7, "shadow_params": shadow}
    return found


@pytest.fixture(autouse=True)
def small_qm9(monkeypatch: pytest.MonkeyPatch) -> None:
    """Node counts come from the training split; a small one is enough here."""
    graphs = Graphs.from_lists([3, 9], [[(0, 1)], [(0, 8)]], [[0] * 3, [0] * 9], [[1], [1]])
    small = Dataset(
        "qm9", graphs, {"train": torch.arange(2).numpy()}, ("C", "N", "O", "F"), None, {}
    )
    monkeypatch.setattr("graphdiff.data.load", lambda name, root=None: small)


@pytest.mark.parametrize(("layers", "hidden", "linears"), [(2, 8, 1), (3, 8, 2), (5, 16, 3)])
def test_every_edge_network_converts(
    layers: int, hidden: int, linears: int, tmp_path: Path
) -> None:
    found = checkpoint(layers=layers, hidden=hidden, linears=linears)
    torch.save(found, tmp_path / "a.pt")
    net = _converted(tmp_path).net
    x, adj, mask = noisy(10, 9, 4)
    with torch.no_grad():
        ours = net({"x": x, "adj": adj}, torch.zeros(10), {"x": mask, "adj": mask})["adj"]
    state, flags, p = found["adj_state_dict"], mask.float(), plain()
    edges = _layers(state, layers, x, adj, flags, hidden, twice=False)[1]
    final = {k.replace("linears", "layers"): v for k, v in state.items()}
    expected = p.mlp(edges, final, "final").squeeze(-1) * (1 - torch.eye(9))
    expected = expected * flags[:, :, None] * flags[:, None, :]
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)


def _layers(
    state: dict[str, Tensor], depth: int, x: Tensor, adj: Tensor, flags: Tensor, hidden: int,
    *, twice: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    p = plain()
    ours = {
        k.replace(".linears.", ".layers.").replace(".linear.", ".layers.0."): v
        for k, v in state.items()
    }
    channels, h = torch.stack([adj, adj @ adj], -1), x
    nodes, edges = [x], [channels]
    for k in range(depth):
        maps, values = [], []
        for c in range(channels.shape[-1]):
            at = f"layers.{k}.attn.{c}"
            q, key, v = (
                p.graph_conv(
                    h, channels[..., c], state[f"{at}.{g}.weight"], state[f"{at}.{g}.bias"]
                )
                for g in ("gnn_q", "gnn_k", "gnn_v")
            )
            s = q.shape[-1] // 4
            heads = [
                torch.tanh(q[..., i : i + s] @ key[..., i : i + s].mT / hidden**0.5)
                for i in range(0, q.shape[-1], s)
            ]
            mean = torch.stack(heads).mean(0)
            maps.append((mean + mean.mT) / 2)
            values.append(v)
        out = p.mlp(torch.cat([torch.stack(maps, -1), channels], -1), ours, f"layers.{k}.mlp")
        mixed = p.mlp(torch.cat(values, -1), ours, f"layers.{k}.multi_channel")
        h = torch.tanh(mixed * flags[:, :, None])
        h = torch.tanh(h) if twice else h
        channels = (out + out.transpose(1, 2)) * flags[:, :, None, None] * flags[:, None, :, None]
        nodes.append(h)
        edges.append(channels)
    return torch.cat(nodes, -1), torch.cat(edges, -1)


def _converted(folder: Path) -> Any:
    from graphdiff.task import task_class
    from graphdiff.train.checkpoint import load_weights, read_card

    out = convert(folder / "a.pt", folder / "model")
    card = read_card(out)
    task = task_class(card.kind).from_config(card.task)
    denoiser = task.build()
    denoiser.load_state_dict(load_weights(out))
    assert task.config.data.sizes == (0, 0, 0, 1, 0, 0, 0, 0, 0, 1)  # type: ignore[attr-defined]
    return denoiser


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("gmh", [False, True])
def test_both_node_networks_convert_at_any_depth(gmh: bool, depth: int, tmp_path: Path) -> None:
    found = checkpoint(gmh=gmh, depth=depth)
    torch.save(found, tmp_path / "a.pt")
    net = _converted(tmp_path).net
    x, adj, mask = noisy(10, 9, 4)
    with torch.no_grad():
        ours = net({"x": x, "adj": adj}, torch.zeros(10), {"x": mask, "adj": mask})["x"]
    state, flags, p = found["x_state_dict"], mask.float(), plain()
    if gmh:
        nodes = _layers(state, depth, x, adj, flags, 8, twice=True)[0]
    else:
        states = [x]
        for k in range(depth):
            w, b = state[f"layers.{k}.weight"], state[f"layers.{k}.bias"]
            states.append(torch.tanh(p.graph_conv(states[-1], adj, w, b)))
        nodes = torch.cat(states, -1)
    final = {k.replace("linears", "layers"): v for k, v in state.items()}
    expected = p.mlp(nodes, final, "final") * flags[:, :, None]
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)


def test_averaged_weights_are_taken_where_the_published_samples_use_them(tmp_path: Path) -> None:
    from graphdiff.train.checkpoint import load_weights

    torch.save(checkpoint(ema=True), tmp_path / "a.pt")
    out = convert(tmp_path / "a.pt", tmp_path / "model")
    raw, ema = load_weights(out, "weights"), load_weights(out, "ema")
    assert all(torch.allclose(ema[k], raw[k] + 1) for k in raw)


def test_data_parallel_names_are_accepted(tmp_path: Path) -> None:
    found = checkpoint()
    for part in ("x_state_dict", "adj_state_dict"):
        found[part] = {f"module.{k}": v for k, v in found[part].items()}
    torch.save(found, tmp_path / "a.pt")
    convert(tmp_path / "a.pt", tmp_path / "model")


class Code:
    """Something that only a pickle with code could bring back."""


def test_files_that_are_no_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no file"):
        load_published(tmp_path / "absent.pt")
    (tmp_path / "code.pt").write_bytes(pickle.dumps({"model_config": Code()}))
    with pytest.raises(CheckpointError, match="plain tensors"):
        load_published(tmp_path / "code.pt")
    torch.save({"model_config": Code()}, tmp_path / "easydict.pt")
    with pytest.raises(CheckpointError, match="EasyDict"):
        load_published(tmp_path / "easydict.pt")
    torch.save(checkpoint(), tmp_path / "whole.pt")
    data = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        load_published(tmp_path / "cut.pt")
    torch.save({"state_dict": {}}, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match=r"found state_dict, expected .*params_x"):
        load_published(tmp_path / "foreign.pt")
    torch.save({**checkpoint(), "params_x": 3}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match="params_x is int"):
        load_published(tmp_path / "odd.pt")


def edited(path: Path, edit: Any) -> Path:
    found = checkpoint(ema=True)
    edit(found)
    torch.save(found, path / "a.pt")
    return path / "a.pt"


def _put(part: str, name: str, shape: tuple[int, ...]) -> Any:
    return lambda f: f[part].update({name: torch.zeros(shape)})


EDITS: dict[str, tuple[Any, str]] = {
    "reshaped": (_put("x_state_dict", "layers.0.weight", (5, 8)), r"\(5, 8\), expected \(4, 8\)"),
    "missing": (lambda f: f["adj_state_dict"].pop("layers.1.attn.2.gnn_k.bias"), "gnn_k.bias"),
    "extra": (_put("x_state_dict", "layers.7.weight", (2,)), "convs.7.weight"),
    "shorter ema": (lambda f: f["ema_x"]["shadow_params"].pop(), "ema_x"),
    "other net": (lambda f: f["params_x"].update(model_type="BaselineNetwork"), "BaselineNetwork"),
    "other attention": (lambda f: f["params_adj"].update(conv="MLP"), "MLP"),
    "no setting": (lambda f: f["params_adj"].pop("c_hid"), "c_hid"),
    "other sde": (lambda f: f["model_config"]["sde"]["x"].update(type="OU"), "OU"),
    "odd heads": (lambda f: f["params_adj"].update(num_heads=5), "heads"),
}


@pytest.mark.parametrize("name", sorted(EDITS))
def test_edited_checkpoints_are_refused_before_anything_is_written(
    name: str, tmp_path: Path
) -> None:
    edit, message = EDITS[name]
    path = edited(tmp_path, edit)
    with pytest.raises(CheckpointError, match=message):
        convert(path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_without_the_data_set_the_error_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str, root: object = None) -> Dataset:
        raise DataError(f"data set {name} not found")

    monkeypatch.setattr("graphdiff.data.load", absent)
    torch.save(checkpoint(), tmp_path / "a.pt")
    with pytest.raises(DataError, match="how many nodes"):
        convert(tmp_path / "a.pt", tmp_path / "model")


@needs_weights
@pytest.mark.parametrize(
    ("name", "x", "adj"), [("qm9", 8_564, 23_825), ("community_small", 72_434, 134_369)]
)
def test_published_files_convert(name: str, x: int, adj: int, tmp_path: Path) -> None:
    """Parameter counts of the published networks, less the edge network's unread last values."""
    found = load_published(PUBLISHED / f"gdss_{name}.pt")
    assert sum(v.numel() for v in found["x_state_dict"].values()) == x
    assert sum(v.numel() for v in found["adj_state_dict"].values()) == adj
    convert(PUBLISHED / f"gdss_{name}.pt", tmp_path / "model")
    c = task_config(found)["model"]
    unread = sum(
        v.numel()
        for k, v in found["adj_state_dict"].items()
        if k.startswith(f"layers.{c['layers'] - 1}.") and ("gnn_v" in k or "multi_channel" in k)
    )
    from graphdiff.train.checkpoint import load_weights

    assert sum(v.numel() for v in load_weights(tmp_path / "model").values()) == x + adj - unread


@needs_weights
def test_published_qm9_weights_denoise_molecules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parameter in a wrong place would not leave a trained network: its loss is far below the
    one of a fresh network, and below that of knowing only the scale of the noise."""
    monkeypatch.undo()
    from graphdiff.graph.gdss import GDSSTask
    from graphdiff.train.checkpoint import load_weights, read_card

    out = convert(PUBLISHED / "gdss_qm9.pt", tmp_path / "model")
    task = GDSSTask.from_config(read_card(out).task)
    denoiser, data = task.build(), task.data()
    index = torch.arange(0, 20_000, 20)
    key = Key(0, index, step=1)
    with torch.no_grad():
        fresh = task.losses(denoiser, data.batch(index), key)
        denoiser.load_state_dict(load_weights(out))
        trained = task.losses(denoiser, data.batch(index), key)
    for name in ("x", "adj"):
        assert float(trained[name].mean()) < 0.3 * float(fresh[name].mean())
