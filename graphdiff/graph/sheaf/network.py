r"""Networks that diffuse node features over a learned sheaf: :class:`SheafNetwork`.

Features :math:`X \in \mathbb R^{n \times d \times h}` (stalk, channel) of layer :math:`t` become

.. math:: X \leftarrow (1 + \tanh \epsilon) \odot X
          - \mathrm{ELU}\big(P_t(\Delta_{F(X)})\, (I \otimes W_1) X W_2\big)

with the Laplacian :math:`\Delta` of maps that are learned from :math:`X` itself. ``filter``:

* ``diffusion``: :math:`P(\Delta) = \Delta`, Neural Sheaf Diffusion (Bodnar et al., 2022,
  arXiv 2202.04579, equation 5);
* ``chebyshev``: :math:`P(\Delta) = \sum_{k \le K} \theta_k T_k(\Delta - I) + \gamma \Delta` with
  :math:`\theta` a softmax, so that the polynomial is bounded by 1 on the spectrum :math:`[0, 2]`,
  and a high-pass gate :math:`\gamma`: K hops for one set of maps (after PolyNSD, arXiv 2512.00242).

``maps`` says which sheaf: ``diagonal``, ``bundle`` (orthogonal), ``general``; and, with nothing
learned, ``identity`` (the graph Laplacian on each coordinate) and ``connection`` (local PCA and
Procrustes alignment, Barbero et al., 2022), the baselines that a gain must be measured against.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from graphdiff.core.errors import ArgumentError, require
from graphdiff.graph.node_features import Features, dense, dropout, linear
from graphdiff.graph.sheaf.laplacian import SheafLaplacian
from graphdiff.graph.sheaf.maps import MapLearner, cayley, connection, householder, map_width
from graphdiff.graph.sheaf.topology import Topology

__all__ = ["SheafConfig", "SheafLayer", "SheafNetwork"]

Maps = Literal["diagonal", "bundle", "general", "identity", "connection"]
AT_ONCE = 256
"""Numbers of a node up to which W1 and W2 are applied as one matrix."""
LEARNED = ("diagonal", "bundle", "general")


@dataclass(frozen=True)
class SheafConfig:
    """Shape of a :class:`SheafNetwork`.

    Attributes:
        maps: Which sheaf.
        stalk: Coordinates of a learned stalk, d.
        lowpass: Append a coordinate with the signless Laplacian D + A (``add_lp`` of the paper).
        highpass: Append one with the graph Laplacian D - A (``add_hp``).
        layers: Number of layers; 0 is an MLP of the encoder and the decoder.
        hidden: Channels of a coordinate, h.
        filter: ``diffusion`` or ``chebyshev``.
        degree: Of the polynomial.
        orthogonal: ``householder`` or ``cayley``, for ``bundle``.
        edge_weights: Learn a weight of each edge, for ``bundle``.
        per_layer: Learn new maps in each layer; else once, from the features of the first.
        identity_start: Diagonal and general maps begin near the identity sheaf, by a learned bias;
            as published, without, they begin near zero.
        mix_stalks: The matrix W1.
        mix_channels: The matrix W2.
        activation: ELU after the filter; without, a layer is linear in its features.
        encoder_layers: 1 or 2 linear layers before the first diffusion.
        norm: Layer normalisation of the coordinates of a node before each layer.
        adjacency: Channels of an embedding of the rows of the adjacency matrix that is added to
            the features (Lim et al., 2021, LINKX); it ties the network to one graph. 0 is none.
        dropout: Of maps' inputs and features.
        input_dropout: Of the features that come in.
    """

    maps: Maps = "diagonal"
    stalk: int = 3
    lowpass: bool = False
    highpass: bool = False
    layers: int = 2
    hidden: int = 16
    filter: Literal["diffusion", "chebyshev"] = "diffusion"
    degree: int = 4
    orthogonal: Literal["householder", "cayley"] = "householder"
    edge_weights: bool = True
    per_layer: bool = True
    identity_start: bool = False
    mix_stalks: bool = True
    mix_channels: bool = True
    activation: bool = True
    encoder_layers: Literal[1, 2] = 1
    norm: bool = False
    adjacency: int = 0
    dropout: float = 0.5
    input_dropout: float = 0.0

    def __post_init__(self) -> None:
        require("network.stalk", self.stalk >= 1, self.stalk, "1 or more")
        require("network.hidden", self.hidden >= 1, self.hidden, "1 or more")
        require("network.layers", self.layers >= 0, self.layers, "0 or more")
        require("network.degree", self.degree >= 1, self.degree, "1 or more")
        require("network.adjacency", self.adjacency >= 0, self.adjacency, "0 or more")
        for name in ("dropout", "input_dropout"):
            value = getattr(self, name)
            require(f"network.{name}", 0 <= value < 1, value, "0 or more and less than 1")
        for name in ("lowpass", "highpass") if self.maps == "connection" else ():
            value = getattr(self, name)
            require(f"network.{name}", not value, value, "false with maps = 'connection'")

    @property
    def width(self) -> int:
        """Coordinates of a node with the appended ones."""
        return self.stalk + self.lowpass + self.highpass

    @property
    def signs(self) -> list[float]:
        """Signs of the appended coordinates: -1 is D + A, +1 is D - A."""
        return [-1.0] * self.lowpass + [1.0] * self.highpass


class SheafLayer(nn.Module):
    """One step of diffusion over a Laplacian that is given."""

    def __init__(self, config: SheafConfig) -> None:
        super().__init__()
        self.config = config
        d, h = config.width, config.hidden
        self.stalks = nn.Linear(d, d, bias=False) if config.mix_stalks else None
        self.channels = nn.Linear(h, h, bias=False) if config.mix_channels else None
        if self.stalks is not None:
            nn.init.eye_(self.stalks.weight)
        if self.channels is not None:
            nn.init.orthogonal_(self.channels.weight)
        self.keep = nn.Parameter(torch.zeros(d, 1))
        if config.filter == "chebyshev":
            self.theta = nn.Parameter(torch.zeros(config.degree + 1))
            self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, laplacian: _Operator) -> Tensor:
        """``[n, d, h]`` to the same."""
        config = self.config
        y = self.mix(dropout(x, config.dropout, self.training))
        y = laplacian(y) if config.filter == "diffusion" else self._polynomial(y, laplacian)
        if config.activation:
            y = nn.functional.elu(y)
        return (1 + torch.tanh(self.keep)) * x - y

    def mix(self, x: Tensor) -> Tensor:
        """Features times the matrices W1 (coordinates) and W2 (channels).

        Narrow sections are multiplied by the Kronecker product of both: W1 alone copies its input
        twice, and a product that narrow is slow.
        """
        d, h = x.shape[1:]
        if self.stalks is not None and d * h <= AT_ONCE:
            turn = torch.eye(h, dtype=x.dtype, device=x.device)
            turn = turn if self.channels is None else self.channels.weight
            both = torch.kron(self.stalks.weight, turn)
            return nn.functional.linear(x.flatten(1), both).view_as(x)
        y = x if self.stalks is None else self.stalks(x.transpose(1, 2)).transpose(1, 2)
        return y if self.channels is None else self.channels(y)

    def _polynomial(self, x: Tensor, laplacian: _Operator) -> Tensor:
        weights = torch.softmax(self.theta, 0)
        first = laplacian(x)
        before, now = x, first - x
        total = weights[0] * before + weights[1] * now + self.gate * first
        for k in range(2, self.config.degree + 1):
            before, now = now, 2 * (laplacian(now) - now) - before
            total = total + weights[k] * now
        return total


class _Operator:
    """Laplacian of the learned coordinates, and of the appended ones beside a full block."""

    def __init__(self, main: SheafLaplacian, fixed: SheafLaplacian | None = None) -> None:
        self.main, self.fixed = main, fixed

    def __call__(self, x: Tensor) -> Tensor:
        if self.fixed is None:
            return self.main(x)
        d = self.main.d
        return torch.cat([self.main(x[:, :d]), self.fixed(x[:, d:])], 1)


class SheafNetwork(nn.Module):
    """Encoder, sheaf diffusion, decoder; classes (or any outputs) of nodes.

    Args:
        config: Shape.
        features: Of a node.
        outputs: Classes.
        nodes: Of the graph; needed for ``config.adjacency`` only.
    """

    def __init__(
        self, config: SheafConfig, features: int, outputs: int, nodes: int | None = None
    ) -> None:
        super().__init__()
        self.config = config
        wide = config.width * config.hidden
        self.encoder = nn.Linear(features, wide)
        self.second = nn.Linear(wide, wide) if config.encoder_layers == 2 else None
        self.rows = None
        if config.adjacency:
            if nodes is None:
                raise ArgumentError("network.adjacency embeds the nodes of one graph; give `nodes`")
            self.rows = nn.Parameter(torch.empty(nodes, config.adjacency))
            nn.init.normal_(self.rows, std=config.adjacency**-0.5)
            self.join = nn.Linear(config.adjacency, wide)
        self.layers = nn.ModuleList(SheafLayer(config) for _ in range(config.layers))
        self.norms = nn.ModuleList(
            nn.LayerNorm(wide) for _ in range(config.layers if config.norm else 0)
        )
        self.learners, self.weights = nn.ModuleList(), nn.ModuleList()
        if config.maps in LEARNED and config.layers:
            for _ in range(config.layers if config.per_layer else 1):
                out = map_width(config.maps, config.stalk)
                self.learners.append(MapLearner(wide, out, start=_start(config)))
                if config.maps == "bundle" and config.edge_weights:
                    self.weights.append(MapLearner(wide, 1, "id"))
        self.decoder = nn.Linear(wide, outputs)

    def map_parameters(self) -> list[nn.Parameter]:
        """Parameters of the restriction maps, which have a weight decay of their own."""
        return [*self.learners.parameters(), *self.weights.parameters()]

    def encode(self, x: Features, topology: Topology) -> Tensor:
        """Features ``[n, f]`` as a section ``[n, d, h]``."""
        config = self.config
        drop = lambda y, p: dropout(y, p, self.training)  # noqa: E731
        y = linear(self.encoder, drop(x, config.input_dropout))
        if self.rows is not None:
            if len(self.rows) != topology.n:
                raise ArgumentError(
                    f"the network embeds the {len(self.rows)} nodes of its own graph "
                    f"(network.adjacency), found a graph of {topology.n}; train without it"
                )
            # Not normalised by node: that would hide the degrees.
            mean = max(topology.entries / max(topology.n, 1), 1.0)
            off = y.new_full((topology.entries,), mean**-0.5)
            values = topology.in_order(off, y.new_zeros(topology.n))
            y = y + self.join(drop(topology.pattern.matmul(values, self.rows), config.dropout))
        y = drop(nn.functional.elu(y), config.dropout)
        if self.second is not None:
            y = self.second(y)
        return y.view(len(x), config.width, config.hidden)

    def forward(self, x: Features, topology: Topology) -> Tensor:
        """Logits ``[n, outputs]`` of features ``[n, f]``.

        Words are faster when :func:`~graphdiff.graph.node_features.compressed`.
        """
        return self.decoder(self.embed(x, topology).flatten(1))

    def embed(self, x: Features, topology: Topology) -> Tensor:
        """The section ``[n, d, h]`` after the last layer."""
        return deque(self.sections(x, topology), maxlen=1)[0]

    def sections(self, x: Features, topology: Topology) -> Iterator[Tensor]:
        """The sections ``[n, d, h]`` after the encoder and after each layer."""
        section = self.encode(x, topology)
        yield section
        laplacian = self.fixed(x, topology)
        for k, layer in enumerate(self.layers):
            y = self.norms[k](section.flatten(1)).view_as(section) if self.norms else section
            if self.learners and (self.config.per_layer or k == 0):
                seen = dropout(y, self.config.dropout if k else 0.0, self.training)
                laplacian = self.laplacian(seen, topology, k if self.config.per_layer else 0)
            assert laplacian is not None
            section = layer(y, laplacian) + (section - y if self.norms else 0)
            yield section

    def laplacian(self, section: Tensor, topology: Topology, k: int = 0) -> _Operator:
        """The sheaf that learner ``k`` sees in a section ``[n, d, h]``."""
        config, seen = self.config, section.flatten(1)
        numbers = self.learners[k](topology, seen)
        signs = torch.tensor(config.signs, dtype=section.dtype, device=section.device)
        if config.maps == "diagonal":
            return _Operator(
                SheafLaplacian.diagonal(topology, numbers, fixed=signs if len(signs) else None)
            )
        d = config.stalk
        if config.maps == "general":
            main = SheafLaplacian.general(topology, numbers.view(-1, d, d))
        else:
            turn = householder if config.orthogonal == "householder" else cayley
            weights = None
            if self.weights:
                one = torch.sigmoid(self.weights[k](topology, seen)[:, 0])
                weights = one * one.index_select(0, topology.reverse)
            main = SheafLaplacian.bundle(topology, turn(numbers, d), weights)
        return _Operator(main, _appended(topology, signs) if len(signs) else None)

    def fixed(self, features: Features, topology: Topology) -> _Operator | None:
        """The sheaf of ``identity`` and ``connection``, which no section changes."""
        config = self.config
        if config.maps == "identity":
            signs = [1.0] * config.stalk + config.signs
            return _Operator(_appended(topology, self.encoder.weight.new_tensor(signs)))
        if config.maps == "connection":
            x = dense(features)
            known = topology.remembered.get(("connection", config.stalk))
            if known is None or not torch.equal(known[0], x):
                known = (x.detach().clone(), connection(topology, x, config.stalk))
                topology.remembered["connection", config.stalk] = known
            return _Operator(SheafLaplacian.transported(topology, known[1]))
        return None


def _start(config: SheafConfig) -> Tensor | None:
    if not config.identity_start or config.maps == "bundle":
        return None
    one = torch.ones(config.stalk)
    return one if config.maps == "diagonal" else torch.diag(one).flatten()


def _appended(topology: Topology, signs: Tensor) -> SheafLaplacian:
    """Graph Laplacians (sign +1) and signless ones (-1), a coordinate for each sign."""
    empty = signs.new_zeros(topology.entries, 0)
    return SheafLaplacian.diagonal(topology, empty, fixed=signs)
