"""Node classification on graphs that somebody may have tampered with.

* :mod:`~graphdiff.graph.robust.stable`: the defence of Li et al. (2022), as a classifier;
* :mod:`~graphdiff.graph.robust.classifier`: what a fit returns, predicts and is saved as;
* :mod:`~graphdiff.graph.robust.similarity`: similar nodes among many, tile by tile;
* :mod:`~graphdiff.graph.robust.encoder`: contrastive embeddings;
* :mod:`~graphdiff.graph.robust.gcn`: graph convolutions, many runs side by side;
* :mod:`~graphdiff.graph.robust.baselines`: what a defence is compared with;
* :mod:`~graphdiff.graph.robust.denoise`: a discrete diffusion of edges as a defence;
* :mod:`~graphdiff.graph.robust.attack`: attacks that know the defence.

The poisoned graphs of the literature are in :mod:`graphdiff.data.poisoned`.
"""

from __future__ import annotations

from graphdiff.graph.robust.config import StableConfig, published
from graphdiff.graph.robust.stable import Stable, StableClassifier, choose

__all__ = ["Stable", "StableClassifier", "StableConfig", "choose", "published"]
