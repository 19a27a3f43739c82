"""A deliberately plain GDSS: the published algorithm written down step by step.

It is the yardstick of ``gdss_parity_speed.py`` and of the tests: full matrices, one graph
convolution a channel, four separate score evaluations a step, step constants from tables at every
call. It shares nothing with the library but weights and noise; the noise comes in as a function, so
that both implementations can be given the same draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

Noise = Callable[[int, str], Tensor]


def mlp(h: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    """Linear layers ``name.layers.k`` with ELU between them, features last."""
    k = 0
    while f"{name}.layers.{k}.weight" in weights:
        if k:
            h = F.elu(h)
        h = F.linear(h, weights[f"{name}.layers.{k}.weight"], weights[f"{name}.layers.{k}.bias"])
        k += 1
    return h


def graph_conv(h: Tensor, adj: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``D^-1/2 (A + I) D^-1/2 h W + b`` with degrees of at least one."""
    eye = torch.eye(adj.shape[-1], dtype=adj.dtype)
    loops = adj * (1 - eye) + eye
    scale = loops.sum(-1).clamp(min=1).pow(-0.5)
    return (scale[:, :, None] * loops * scale[:, None, :]) @ (h @ weight) + bias


def attention_layer(
    h: Tensor, channels: Tensor, flags: Tensor, w: Mapping[str, Tensor], at: str, heads: int
) -> tuple[Tensor, Tensor]:
    """One GMH layer: ``h [b, n, f]``, ``channels [b, n, n, c]``."""
    maps, values = [], []
    has_values = f"{at}.value" in w
    width = w[f"{at}.query"].shape[-1]
    out = w["layers.0.query"].shape[-1]  # the first layer's queries have the output width
    for c in range(channels.shape[-1]):
        adj = channels[..., c]
        q = graph_conv(h, adj, w[f"{at}.query"][c], w[f"{at}.query_bias"][c])
        k = graph_conv(h, adj, w[f"{at}.key"][c], w[f"{at}.key_bias"][c])
        split = width // heads
        heads_ = [
            torch.tanh(
                q[..., s : s + split] @ k[..., s : s + split].transpose(1, 2) / math.sqrt(out)
            )
            for s in range(0, width, split)
        ]
        mean = torch.stack(heads_).mean(0)
        maps.append((mean + mean.transpose(1, 2)) / 2)
        if has_values:
            values.append(graph_conv(h, adj, w[f"{at}.value"][c], w[f"{at}.value_bias"][c]))
    if has_values:
        h = torch.tanh(mlp(torch.cat(values, -1), w, f"{at}.node_mlp") * flags[:, :, None])
    edges = mlp(torch.cat([torch.stack(maps, -1), channels], -1), w, f"{at}.edge_mlp")
    edges = edges + edges.transpose(1, 2)
    return h, edges * flags[:, :, None, None] * flags[:, None, :, None]


def node_score(
    x: Tensor, adj: Tensor, flags: Tensor, w: Mapping[str, Tensor], depth: int
) -> Tensor:
    """Node network of graph convolutions."""
    states, h = [x], x
    for k in range(depth):
        h = torch.tanh(graph_conv(h, adj, w[f"convs.{k}.weight"], w[f"convs.{k}.bias"]))
        states.append(h)
    return mlp(torch.cat(states, -1), w, "final") * flags[:, :, None]


def edge_score(
    x: Tensor, adj: Tensor, flags: Tensor, w: Mapping[str, Tensor], layers: int, heads: int,
    powers: int,
) -> Tensor:  # fmt: skip
    """Edge network of attention layers."""
    power, found = adj, [adj]
    for _ in range(powers - 1):
        power = power @ adj
        found.append(power)
    channels = torch.stack(found, -1)
    seen, h = [channels], x
    for k in range(layers):
        h, channels = attention_layer(h, channels, flags, w, f"layers.{k}", heads)
        seen.append(channels)
    out = mlp(torch.cat(seen, -1), w, "final").squeeze(-1)
    out = out * (1 - torch.eye(adj.shape[-1], dtype=adj.dtype))
    return out * flags[:, :, None] * flags[:, None, :]


def langevin(
    value: Tensor, score: Tensor, noise: Tensor, snr: float, scale: float, alpha: float
) -> Tensor:
    """Published Langevin step: norms averaged over the batch."""
    size = len(value)
    grad_norm = score.reshape(size, -1).norm(dim=-1).mean()
    noise_norm = noise.reshape(size, -1).norm(dim=-1).mean()
    step = (snr * noise_norm / grad_norm) ** 2 * 2 * alpha
    return value + step * score + torch.sqrt(step * 2) * noise * scale


def reverse_ve(
    value: Tensor, score: Tensor, noise: Tensor, t: float, low: float, high: float, count: int
) -> tuple[Tensor, Tensor]:
    """Reverse-diffusion predictor of a VE SDE with the table of ``count`` noise levels."""
    table = torch.exp(torch.linspace(math.log(low), math.log(high), count, dtype=torch.float64))
    k = math.floor(t * (count - 1) + 1e-6)
    previous = float(table[k - 1]) if k else 0.0
    variance = float(table[k]) ** 2 - previous**2
    mean = value + variance * score
    return mean + math.sqrt(variance) * noise, mean


@torch.no_grad()
def sample_qm9(
    weights: Mapping[str, Tensor], flags: Tensor, noise: Noise, *, low: float, high: float,
    steps: int, stop: int, snr: float, scale: float, end: float = 1e-4,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The published predictor-corrector loop with VE noise on both parts (the QM9 settings).

    Args:
        weights: State dict of a graphdiff denoiser, published QM9 shapes.
        flags: Node mask ``[b, n]`` as floats.
        noise: ``noise(stage, name)`` gives a masked draw; stage 0 is the prior, then two a step.
        low: Smallest noise level.
        high: Largest noise level.
        steps: Steps of the full loop, hence rows of the tables.
        stop: Steps that are really made.
        snr: Signal-to-noise ratio of the corrector.
        scale: Factor of the corrector's noise.
        end: Last time.

    Returns:
        ``x [b, n, 4]`` and ``adj [b, n, n]`` after ``stop`` steps; the means if that is the end.
    """
    wx = {k.removeprefix("net.x."): v for k, v in weights.items() if k.startswith("net.x.")}
    wa = {k.removeprefix("net.adj."): v for k, v in weights.items() if k.startswith("net.adj.")}

    def score_x() -> Tensor:
        return node_score(x, adj, flags, wx, 2)

    def score_adj() -> Tensor:
        return edge_score(old, adj, flags, wa, 3, 4, 2)

    x, adj = high * noise(0, "x"), high * noise(0, "adj")
    times = torch.linspace(1.0, end, steps, dtype=torch.float64)
    for i in range(stop):
        t = float(times[i])
        old = x
        moved = langevin(x, score_x(), noise(2 * i + 1, "x"), snr, scale, 1.0)
        adj = langevin(adj, score_adj(), noise(2 * i + 1, "adj"), snr, scale, 1.0)
        x = old = moved
        new, x_mean = reverse_ve(x, score_x(), noise(2 * i + 2, "x"), t, low, high, steps)
        adj, adj_mean = reverse_ve(adj, score_adj(), noise(2 * i + 2, "adj"), t, low, high, steps)
        x = new
    return (x_mean, adj_mean) if stop == steps else (x, adj)
