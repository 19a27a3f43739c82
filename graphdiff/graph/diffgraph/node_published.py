r"""DiffGraph for node classification as published (Li et al., 2025, arXiv 2501.02313).

.. math::
    e = X W + b, \qquad h_0 = e, \quad h_l = \phi(P h_{l-1}), \qquad
    E_P = e + \sum_{l=1}^{3} \frac{h_l}{\lVert h_l \rVert},

with :math:`\phi` the leaky rectifier of slope one half and no weights inside, once for the target
meta-path (:math:`E_0`) and for each auxiliary one; the source is the sum of the latter. One
perceptron maps the noised source to the target
(:meth:`~graphdiff.graph.diffgraph.denoiser.DenoiserConfig.published`, noise scale 1e-5), and

.. math:: \ell = H (E_0 + \hat z) + b', \qquad
          \text{loss} = \mathrm{nll}(\ell) + \mathrm{mean}_i\, w_{t_i}
          \lVert D_\theta(x_{i, t_i}, t_i) - E_{0,i} \rVert^2 / d ,

gradients of the second flowing to both views. Dropout of the denoiser is on in every training step.

Changed, since the released code is not fit to be measured: the epoch is the best on *validation*
(there: for each metric the best on test); meta-paths are counted and applied factored (there:
binary and multiplied out), normalised symmetrically as there; all training nodes are one batch
(there: eight, each batch a pass over the whole graph).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graphdiff.core.rng import Key
from graphdiff.graph.diffgraph.denoiser import DenoiserConfig, HeteroDenoiser
from graphdiff.graph.diffgraph.metapath import MetaPath

__all__ = ["PublishedModel", "spread"]


def spread(path: MetaPath, e: Tensor, layers: int) -> Tensor:
    r"""The encoder without weights, :math:`E_P` of the module docstring.

    Args:
        path: Operator ``[n, n]``.
        e: ``[n, d]``.
        layers: Number of propagations.
    """
    total, h = e, e
    for _ in range(layers):
        h = nn.functional.leaky_relu(path(h), 0.5)
        total = total + nn.functional.normalize(h, dim=-1)
    return total


class PublishedModel(nn.Module):
    """See the module docstring.

    Args:
        paths: Meta-paths, the target first; symmetric ones as published.
        features: Width of the features; the number of nodes where they are the identity.
        classes: Number of classes.
        dim: Width of the latent space.
        layers: Of the encoders.
        steps: Network calls of the chain, 200 as published, or 1 for the same answers.
        seed: Of the initial weights.
    """

    def __init__(
        self, paths: Sequence[MetaPath], features: int, classes: int, *, dim: int = 64,
        layers: int = 3, steps: int = 1, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.paths, self.layers = tuple(paths), layers
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.input = nn.Linear(features, dim)
            self.head = nn.Linear(dim, classes)
            for layer in (self.input, self.head):
                nn.init.xavier_normal_(layer.weight, 1.414)
        config = DenoiserConfig.published(steps=steps, noise_scale=1e-5, dim=dim)
        self.denoiser = HeteroDenoiser(dim, dim, config, seed)

    def encode(self, x: Tensor | None) -> tuple[Tensor, Tensor]:
        """Target and source ``[n, d]`` of all nodes; ``x`` ``[n, f]``, None for the identity."""
        e = self.input.weight.t() + self.input.bias if x is None else self.input(x)
        target, *rest = (spread(path, e, self.layers) for path in self.paths)
        return target, torch.stack(rest).sum(0)

    def loss(self, x: Tensor | None, nodes: Tensor, y: Tensor, key: Key) -> Tensor:
        """Training loss on the labelled ``nodes`` ``[k]`` of classes ``y``; one id for each."""
        target, source = (part[nodes] for part in self.encode(x))
        made = self.denoiser.estimate(target, source, key)
        nll = nn.functional.cross_entropy(self.head(target + made.target), y)
        return nll + made.loss.mean()

    def forward(self, x: Tensor | None) -> Tensor:
        """Logits ``[n, C]`` of all nodes."""
        target, source = self.encode(x)
        found: Tensor = self.head(target + self.denoiser.sample(source))
        return found
