r"""A contrastive encoder of nodes: embeddings of a graph whose edges cannot be trusted.

One layer :math:`H = \mathrm{PReLU}_a(\hat A X W + b)` is trained without labels (Li et al., 2022,
arXiv 2207.00012, after Deep Graph Infomax). Two views :math:`V_1, V_2` of the graph have some
suspicious edges put back. With :math:`\Pi` a random permutation of the nodes,

.. math::
    H_k = h(V_k X), \quad c_k = \mathrm{sigmoid}(\tfrac1n \mathbf 1^\top H_k), \quad
    v = B (c_1 + c_2), \quad y = h(\hat A X)\, v, \quad \tilde y = h(\hat A \Pi X)\, v, \\
    L = \tfrac{1}{2n} \textstyle\sum_i \log(1 + e^{-y_i}) + \log(1 + e^{\tilde y_i}) :

a node is told from one with shuffled features by its agreement with the summaries of the views.

The product :math:`Z = XW` is made once and shared by all four layers, since shuffling commutes with
it. Every gradient of :math:`L` by an activation is a matrix of rank one: with
:math:`\delta = \partial L / \partial y` it is :math:`\delta v^\top` for the anchor (likewise
:math:`\tilde\delta v^\top`), and :math:`\tfrac1n \mathbf 1 g_k^\top` for a view with
:math:`g_k = c_k (1 - c_k) \odot B^\top q`, :math:`q = H^\top \delta + \tilde H^\top \tilde\delta`.
So the gradient (:func:`loss_and_gradient`) is written out: of each layer only the sign of its input
is kept, and large graphs fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import prelu, softplus

from graphdiff.core.errors import ArgumentError
from graphdiff.core.rng import Key

__all__ = ["Encoder", "EncoderConfig", "Gradient", "fit_encoder", "loss_and_gradient"]


@dataclass(frozen=True)
class EncoderConfig:
    """How an encoder is trained.

    Attributes:
        hidden: Width of the embeddings.
        lr: Learning rate of Adam.
        epochs: At most so many.
        patience: Epochs without a lower training loss after which it stops.
    """

    hidden: int = 512
    lr: float = 1e-3
    epochs: int = 10_000
    patience: int = 20

    def __post_init__(self) -> None:
        if min(self.hidden, self.epochs, self.patience) < 1 or not self.lr > 0:
            raise ArgumentError(
                f"an encoder needs a positive width, learning rate, number of epochs and patience, "
                f"found {self}"
            )


class Encoder(nn.Module):
    """One graph convolution and the bilinear form that compares nodes with summaries.

    Args:
        features: Number of features.
        hidden: Width of the embeddings.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features, hidden))
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.slope = nn.Parameter(torch.full((1,), 0.25))
        self.form = nn.Parameter(torch.empty(hidden, hidden))
        nn.init.xavier_uniform_(self.weight)
        nn.init.xavier_uniform_(self.form)

    def forward(self, adjacency: Tensor, features: Tensor) -> Tensor:
        """Embeddings ``[n, hidden]``.

        Args:
            adjacency: Normalised, sparse ``[n, n]``.
            features: Sparse or dense ``[n, f]``.
        """
        return prelu(adjacency @ (features @ self.weight) + self.bias, self.slope)


@dataclass(frozen=True)
class Gradient:
    """The loss and its derivatives by the parameters of an :class:`Encoder`."""

    loss: Tensor
    weight: Tensor
    bias: Tensor
    slope: Tensor
    form: Tensor


@dataclass
class _Layer:
    """What is needed of ``U = A Z + b`` afterwards: its sign, and sums over its nodes."""

    positive: Tensor
    total: Tensor
    below: Tensor


def _view(adjacency: Tensor, z: Tensor, bias: Tensor) -> _Layer:
    u = (adjacency @ z).add_(bias)
    positive = u > 0
    return _Layer(positive, u.sum(0), u.clamp_(max=0).sum(0))


def _slopes(positive: Tensor, row: Tensor, a: Tensor) -> Tensor:
    """``PReLU'(U) * row`` for a vector ``row`` of the features."""
    return positive.to(row.dtype).mul_((1 - a) * row).add_(a * row)


@torch.no_grad()
def loss_and_gradient(
    encoder: Encoder,
    features: Tensor,
    turned: Tensor,
    anchor: Tensor,
    views: Sequence[Tensor],
    shuffle: Tensor,
) -> Gradient:
    """The loss of the module docstring and its gradient, in closed form.

    Args:
        encoder: Its parameters are read.
        features: Sparse ``[n, f]``.
        turned: The same transposed, ``[f, n]``.
        anchor: Symmetric normalised adjacency, sparse ``[n, n]``.
        views: Those of the views, symmetric as well.
        shuffle: A permutation of the nodes, int64 ``[n]``.
    """
    a, v_form, n = encoder.slope, encoder.form, features.shape[0]
    z = features @ encoder.weight
    layers = [_view(view, z, encoder.bias) for view in views]
    summaries = [((x.total - (1 - a) * x.below) / n).sigmoid() for x in layers]
    both = torch.stack(summaries).sum(0)
    v = v_form @ both

    loss, q = z.new_zeros(()), torch.zeros_like(both)
    to_z, to_bias, to_slope = torch.zeros_like(z), torch.zeros_like(both), torch.zeros_like(a)
    for sign, order in ((-1.0, None), (1.0, shuffle)):
        u = (anchor @ (z if order is None else z[order])).add_(encoder.bias)
        positive, below = u > 0, u.clamp(max=0)
        u.sub_(below, alpha=1 - float(a))  # the activations
        score = u @ v
        loss += softplus(sign * score).sum() / (2 * n)
        delta = sign * (sign * score).sigmoid() / (2 * n)
        q += delta @ u
        to_slope += delta @ (below @ v)
        into = _slopes(positive, v, a).mul_(delta[:, None])
        to_bias += into.sum(0)
        back = anchor @ into
        to_z = to_z.add_(back) if order is None else to_z.index_add_(0, order, back)

    pull = v_form.T @ q
    for layer, view, c in zip(layers, views, summaries, strict=True):
        g = c * (1 - c) * pull / n
        into = _slopes(layer.positive, g, a)
        to_bias += into.sum(0)
        to_slope += g @ layer.below
        to_z += view @ into
    return Gradient(loss, turned @ to_z, to_bias, to_slope, torch.outer(q, both))


def fit_encoder(
    features: Tensor,
    turned: Tensor,
    anchor: Tensor,
    views: Sequence[Tensor],
    config: EncoderConfig | None = None,
    *,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> tuple[Encoder, list[float]]:
    """Train an encoder; the parameters are those of the epoch with the lowest training loss.

    Args:
        features: Sparse ``[n, f]``.
        turned: The same transposed, ``[f, n]``.
        anchor: Symmetric normalised adjacency, sparse ``[n, n]``.
        views: Those of the views.
        config: How; the published values by default.
        seed: Of the initial parameters and of the shuffles.
        progress: Called with the number of epochs done and the loss.

    Returns:
        The encoder and the loss of each epoch.
    """
    config = config or EncoderConfig()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder(features.shape[1], config.hidden).to(features.device)
    names = ("weight", "bias", "slope", "form")
    adam = torch.optim.Adam(encoder.parameters(), config.lr, fused=True)
    key = Key(seed, torch.zeros(1, dtype=torch.int64, device=features.device))
    losses: list[float] = []
    best, kept, since = float("inf"), encoder.state_dict(), 0
    for epoch in range(config.epochs):
        order = key.at(epoch, "shuffle").uniform(features.shape[0])[0].argsort()
        found = loss_and_gradient(encoder, features, turned, anchor, views, order)
        losses.append(float(found.loss))
        if losses[-1] < best:
            best, since = losses[-1], 0
            kept = {name: value.clone() for name, value in encoder.state_dict().items()}
        else:
            since += 1
        if progress is not None:
            progress(epoch + 1, losses[-1])
        if since == config.patience:
            break
        for name in names:
            getattr(encoder, name).grad = getattr(found, name)
        adam.step()
    encoder.load_state_dict(kept)
    encoder.requires_grad_(False)
    return encoder, losses
