r"""The two score networks of GDSS (Jo et al., ICML 2022, arXiv 2202.02514, section 3.4).

*Node network*: :math:`H_{l+1} = \tanh \mathrm{GCN}(H_l, A)` and
:math:`s_X = \mathrm{MLP}[X, H_1 .. H_L]`; its second form replaces the GCN by the attention layer.

*Edge network*: channels :math:`A^1 .. A^{c}` go through graph multi-head attention (GMH, Baek et
al., 2021). For channel :math:`c`, with :math:`\hat A_c = D^{-1/2}(A_c + I)D^{-1/2}`,

.. math::
    Q_c = \hat A_c H W^Q_c + b, \quad K_c = \hat A_c H W^K_c + b, \quad V_c = \hat A_c H W^V_c + b,
    \\
    M_c = \mathrm{sym}\, \mathrm{mean}_h \tanh(Q_c^h {K_c^h}^\top / \sqrt{d_{out}}),
    \quad A'_{ij} = 2\, \mathrm{MLP}[M_{ij}, A_{ij}], \quad H' = \tanh \mathrm{MLP}[V_1 .. V_C].

The published code forms each channel in turn on full matrices. Four identities make the same
function cheaper: every edge field is symmetric and its diagonal reaches nothing, so edge MLPs run
once per pair (:mod:`graphdiff.graph.nets.pairs`); :math:`\hat A_c (H W_c) = (\hat A_c H) W_c`, so
all channels share one product; :math:`V_c` is only read by a linear layer, into which its weight
is multiplied first; and :math:`\tanh s = 2\,\mathrm{sigmoid}(2s) - 1`, of which the outer part
commutes with the means. The last edge layer's :math:`V` is never read and does not exist here.
Inside, tensors keep features first and samples last. Time is not an input of either network.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from graphdiff.graph.nets.encoded import NodeEncoding
from graphdiff.graph.nets.pairs import (
    outer,
    pair_mask,
    spread,
    symmetric_pairs,
    to_dense,
    to_pairs,
)

__all__ = ["AttentionLayer", "EdgeNetwork", "GDSSNetwork", "NodeNetwork", "NodeNetworkGMH"]


class _ELU(Function):
    """ELU whose gradient needs its output only: one pass less over memory than torch's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = F.elu(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return y.clamp(max=0).add_(1).mul_(grads[0])


class MLP(nn.Module):
    """Linear layers with ELU between them, on ``[c, rows]``: features first."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        pairs = itertools.pairwise(sizes)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Apply the layers from ``start`` on; ``start > 0`` expects what layer ``start-1`` gave."""
        for k in range(start, len(self.layers)):
            if k:
                x = _ELU.apply(x)
            linear = self.linear(k)
            x = torch.addmm(linear.bias.unsqueeze(1), linear.weight, x)
        return x

    def linear(self, k: int) -> nn.Linear:
        """Layer ``k``."""
        layer = self.layers[k]
        assert isinstance(layer, nn.Linear)
        return layer


def _glorot(*shape: int) -> nn.Parameter:
    bound = math.sqrt(6.0 / (shape[-2] + shape[-1]))
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def _normalised(pairs: Tensor, n: int) -> Tensor:
    """``D^-1/2 (A + I) D^-1/2``: ``[c, p, b]`` to ``[c, n, n, b]``."""
    loops = to_dense(pairs, n, diagonal=1.0)
    scale = loops.sum(2).clamp(min=1).rsqrt()  # degrees below one count as one, as published
    return loops * scale.unsqueeze(2) * scale.unsqueeze(1)


class GraphConv(nn.Module):
    """Dense graph convolution (Kipf and Welling, 2017) on one channel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = _glorot(inputs, outputs)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, h: Tensor, adjacency: Tensor) -> Tensor:
        """``h [f, n, b]``, normalised adjacency ``[1, n, n, b]`` to ``[outputs, n, b]``."""
        mixed = spread(adjacency, h.unsqueeze(0)).flatten(2).squeeze(0)
        out = torch.addmm(self.bias.unsqueeze(1), self.weight.t(), mixed)
        return out.view(-1, *h.shape[1:])


class AttentionLayer(nn.Module):
    """One graph multi-head attention layer on all edge channels at once.

    Args:
        features: Node features in.
        attention: Width of queries and keys over all heads.
        outputs: Node features out; its root is the temperature of the attention.
        channels_in: Edge channels in.
        channels_out: Edge channels out.
        linears: Linear layers of the edge MLP.
        heads: Attention heads; divides ``attention``.
        nodes: Whether node features are produced.
        edges: Whether edge channels are produced.
    """

    def __init__(
        self,
        features: int,
        attention: int,
        outputs: int,
        channels_in: int,
        channels_out: int,
        linears: int,
        heads: int,
        *,
        nodes: bool = True,
        edges: bool = True,
    ) -> None:
        super().__init__()
        self.heads, self.outputs, self.attention = heads, outputs, attention
        self.channels_in, self.has_edges, self.has_nodes = channels_in, edges, nodes
        hidden = 2 * max(channels_in, channels_out)
        if edges:
            self.query = _glorot(channels_in, features, attention)
            self.query_bias = nn.Parameter(torch.zeros(channels_in, attention))
            self.key = _glorot(channels_in, features, attention)
            self.key_bias = nn.Parameter(torch.zeros(channels_in, attention))
            self.edge_mlp = MLP([2 * channels_in, *[hidden] * (linears - 1), channels_out])
        if nodes:
            self.value = _glorot(channels_in, features, outputs)
            self.value_bias = nn.Parameter(torch.zeros(channels_in, outputs))
            self.node_mlp = MLP([channels_in * outputs, hidden, outputs])

    def forward(
        self, h: Tensor, pairs: Tensor, mask: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Update nodes and edges.

        Args:
            h: Node features ``[f, n, b]``.
            pairs: Edge channels ``[c, p, b]``.
            mask: Node mask ``[n, b]``, in the dtype of ``h``.
            real: Pair mask ``[p, b]``, in the dtype of ``h``.

        Returns:
            ``(h', pairs')``; a side that this layer does not produce is returned unchanged.
        """
        c, (_, n, b) = self.channels_in, h.shape
        mixed = spread(_normalised(pairs, n), h.unsqueeze(0).expand(c, -1, -1, -1)).flatten(2)
        if self.has_nodes:
            h = torch.tanh(self._nodes(mixed).view(-1, n, b) * mask)
        if self.has_edges:
            pairs = self._edges(mixed, pairs, n) * real
        return h, pairs

    def _nodes(self, mixed: Tensor) -> Tensor:
        first = self.node_mlp.linear(0)
        c, f, o = self.value.shape
        read = first.weight.view(-1, c, o).permute(1, 2, 0)  # [c, o, hidden]
        weight = torch.bmm(self.value, read).reshape(c * f, -1)
        bias = first.bias + torch.einsum("co,coh->h", self.value_bias, read)
        hidden = torch.addmm(bias.unsqueeze(1), weight.t(), mixed.flatten(0, 1))
        return self.node_mlp(hidden, start=1)

    def _edges(self, mixed: Tensor, pairs: Tensor, n: int) -> Tensor:
        c, p, b = pairs.shape
        scale = 2.0 * self.outputs**-0.5  # the 2 belongs to tanh s = 2 sigmoid(2 s) - 1
        q, k = (
            torch.baddbmm(bias.unsqueeze(2), weight.transpose(1, 2), mixed).view(
                c * self.heads, -1, n, b
            )
            for weight, bias in (
                (self.query * scale, self.query_bias * scale),
                (self.key, self.key_bias),
            )
        )
        gates = outer(q, k).sigmoid_().view(c, self.heads, n, n, b).sum(1)
        maps = symmetric_pairs(gates).mul(1.0 / self.heads) - 1.0
        rows = torch.cat([maps, pairs]).flatten(1)
        return self.edge_mlp(rows).unflatten(1, (p, b)) * 2.0


class NodeNetwork(nn.Module):
    """Node network of GCN layers (``ScoreNetworkX`` of the published code).

    Args:
        features: Node features in.
        depth: Layers.
        hidden: Node features inside.
        outputs: Node features out; as many as come in by default.
    """

    def __init__(self, features: int, depth: int, hidden: int, outputs: int | None = None) -> None:
        super().__init__()
        widths = [features, *[hidden] * depth]
        self.convs = nn.ModuleList(GraphConv(a, b) for a, b in itertools.pairwise(widths))
        last = features if outputs is None else outputs
        self.final = MLP([sum(widths), 2 * sum(widths), 2 * sum(widths), last])

    def forward(self, x: Tensor, powers: Tensor, mask: Tensor, real: Tensor) -> Tensor:
        """``x [f, n, b]``, powers of the adjacency ``[c, p, b]`` to ``[outputs, n, b]``."""
        adjacency = _normalised(powers[:1], x.shape[1])
        states = [x]
        for conv in self.convs:
            states.append(torch.tanh(conv(states[-1], adjacency)))
        return self.final(torch.cat(states).flatten(1)).view(-1, *mask.shape) * mask


class NodeNetworkGMH(nn.Module):
    """Node network of attention layers (``ScoreNetworkX_GMH`` of the published code).

    ``outputs`` is the number of node features out, that of those in by default.
    """

    def __init__(
        self,
        features: int,
        depth: int,
        hidden: int,
        *,
        linears: int,
        channels: tuple[int, int, int],
        attention: int,
        heads: int,
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        self.layers = _attention_stack(
            features, depth, hidden, linears, channels, attention, heads, nodes=True
        )
        width = features + depth * hidden
        self.final = MLP([width, 2 * width, 2 * width, features if outputs is None else outputs])

    def forward(self, x: Tensor, powers: Tensor, mask: Tensor, real: Tensor) -> Tensor:
        """``x [f, n, b]``, powers of the adjacency ``[c, p, b]`` to ``[outputs, n, b]``."""
        states, h, channels = [x], x, powers
        for layer in self.layers:
            h, channels = layer(h, channels, mask, real)
            h = torch.tanh(h)  # the layer ends in a tanh of its own; the published net has both
            states.append(h)
        return self.final(torch.cat(states).flatten(1)).view(-1, *mask.shape) * mask


class EdgeNetwork(nn.Module):
    """Edge network (``ScoreNetworkA`` of the published code)."""

    def __init__(
        self,
        features: int,
        depth: int,
        hidden: int,
        *,
        linears: int,
        channels: tuple[int, int, int],
        attention: int,
        heads: int,
    ) -> None:
        super().__init__()
        self.layers = _attention_stack(
            features, depth, hidden, linears, channels, attention, heads, nodes=False
        )
        width = channels[0] + channels[1] * (depth - 1) + channels[2]
        self.final = MLP([width, 2 * width, 2 * width, 1])

    def forward(self, x: Tensor, powers: Tensor, mask: Tensor, real: Tensor) -> Tensor:
        """``x [f, n, b]``, powers of the adjacency ``[c, p, b]`` to ``[p, b]``."""
        channels, seen = powers, [powers]
        for layer in self.layers:
            x, channels = layer(x, channels, mask, real)
            seen.append(channels)
        return self.final(torch.cat(seen).flatten(1)).view(real.shape) * real


def _attention_stack(
    features: int,
    depth: int,
    hidden: int,
    linears: int,
    channels: tuple[int, int, int],
    attention: int,
    heads: int,
    *,
    nodes: bool,
) -> nn.ModuleList:
    """Layers as published: the first one's attention is ``hidden`` wide, the others ``attention``.

    ``nodes`` says which side of the last layer is read: node features or edge channels.
    """
    c_init, c_hid, c_final = channels
    layers = []
    for k in range(depth):
        last = k == depth - 1
        layers.append(
            AttentionLayer(
                features if k == 0 else hidden,
                hidden if k == 0 else attention,
                hidden,
                c_init if k == 0 else c_hid,
                c_final if last and k > 0 else c_hid,
                linears,
                heads,
                nodes=nodes or not last,
                edges=not nodes or not last,
            )
        )
    return nn.ModuleList(layers)


def _powers(adj: Tensor, count: int) -> Tensor:
    """``A^1 .. A^count`` off the diagonal: ``[b, n, n]`` to ``[count, p, b]``."""
    power, found = adj, [to_pairs(adj)]
    for _ in range(count - 1):
        power = torch.bmm(power, adj)
        found.append(to_pairs(power))
    return torch.stack(found)


class GDSSNetwork(nn.Module):
    """Both networks behind the interface of :class:`graphdiff.core.denoiser.Denoiser`.

    They read ``values["x"] [b, n, f]`` and ``values["adj"] [b, n, n]`` with one node mask, and
    answer raw outputs of the same shapes.

    Args:
        node: The node network.
        edge: The edge network.
        powers: Powers of the adjacency that the networks read.
        encoding: Positional encoding whose channels both networks read behind those of ``x``.
    """

    def __init__(
        self,
        node: nn.Module,
        edge: nn.Module,
        *,
        powers: int,
        encoding: NodeEncoding | None = None,
    ) -> None:
        super().__init__()
        self.x, self.adj, self.encoding = node, edge, encoding
        self.powers = powers

    def forward(
        self,
        values: Mapping[str, Tensor],
        label: Tensor,
        masks: Mapping[str, Tensor],
        cond: object = None,
    ) -> dict[str, Tensor]:
        """Raw network outputs for ``x`` and ``adj``; ``label`` is not read (module docstring)."""
        x, adj = values["x"], values["adj"]
        mask = masks.get("x")
        if mask is None:
            mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        read = x if self.encoding is None else torch.cat([x, self.encoding(adj, mask)], 2)
        first = read.permute(2, 1, 0).contiguous()
        flags = mask.t().contiguous()
        real, flags = pair_mask(flags).to(x.dtype), flags.to(x.dtype)
        powers = _powers(adj, self.powers)
        nodes = self.x(first, powers, flags, real)
        edges = self.adj(first, powers, flags, real)
        dense = to_dense(edges.unsqueeze(0), x.shape[1], diagonal=0.0).squeeze(0)
        return {"x": nodes.permute(2, 1, 0), "adj": dense.permute(2, 0, 1)}
