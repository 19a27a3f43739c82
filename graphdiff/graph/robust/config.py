"""Settings of the defence: the published ones of each poisoned graph.

Li et al. (2022) give other values for every rate of the attack, so they assume that the rate is
known. :func:`published` has them. :func:`graphdiff.graph.robust.stable.choose` knows nothing of the
attack: it takes what is best on the validation nodes of the graph that it is given.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.robust.encoder import EncoderConfig
from graphdiff.graph.robust.gcn import GCNConfig

__all__ = ["StableConfig", "published"]


@dataclass(frozen=True)
class StableConfig:
    """A whole pipeline.

    Attributes:
        jaccard: Edges below this similarity of features are dropped before the encoder is trained;
            0 for features that are no sets of words.
        recover: Share of them that each view of the encoder has back.
        beta: Self-loops of the encoder's graph; its views have one more.
        cosine: Edges whose embeddings are not more alike than this are dropped after it.
        k: Most similar nodes that each node listens to, itself included.
        symmetric: Whether these listen back; as published they do not.
        alpha: Exponent of degrees in the classifier's graph; -0.5 is the usual one.
        encoder: Training of the encoder.
        gcn: Training of the classifier.
    """

    jaccard: float = 0.03
    recover: float = 0.2
    beta: float = 2.0
    cosine: float = 0.1
    k: int = 5
    symmetric: bool = False
    alpha: float = 0.3
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    gcn: GCNConfig = field(default_factory=GCNConfig)

    def __post_init__(self) -> None:
        good = 0 <= self.jaccard <= 1 and 0 <= self.recover <= 1 and -1 <= self.cosine <= 1
        if not good or self.k < 0 or not self.beta >= 0:
            raise ArgumentError(
                "expected jaccard and recover in [0, 1], cosine in [-1, 1], k >= 0 and beta >= 0, "
                f"found {self}"
            )


_RATES = (0.0, 0.05, 0.1, 0.15, 0.2)
_TABLE: dict[str, dict[str, tuple[float, ...]]] = {
    "cora": {
        "alpha": (-0.5, -0.3, 0.3, 0.6, 0.6),
        "k": (1, 5, 7, 7, 7),
        "jaccard": (0, 0.03, 0.03, 0.03, 0.03),
        "cosine": (0.1, 0.1, 0.1, 0.2, 0.25),
        "beta": (2, 2, 2, 2, 2),
    },
    "citeseer": {
        "alpha": (-0.5, -0.3, -0.1, -0.1, 0.1),
        "k": (3, 3, 5, 5, 5),
        "jaccard": (0, 0.02, 0.02, 0.04, 0.03),
        "cosine": (0.1, 0.1, 0.1, 0.1, 0.1),
        "beta": (2, 2, 2, 2, 2),
    },
    "polblogs": {
        "alpha": (-0.5, 0.3, 0.5, 2, 2),
        "k": (0, 3, 3, 3, 3),
        "jaccard": (0, 0, 0, 0, 0),
        "cosine": (0.1, 0.1, 0.1, 0.1, 0.1),
        "beta": (2, 1, 1, 2, 2),
    },
}


def published(name: str, rate: float) -> StableConfig:
    """The published settings for a graph under Metattack.

    Args:
        name: ``cora``, ``citeseer`` or ``polblogs``.
        rate: Of the attack: 0, .05, .1, .15 or .2.

    Raises:
        ArgumentError: None are published for these.
    """
    if name not in _TABLE or rate not in _RATES:
        raise ArgumentError(
            f"no settings are published for {name!r} at rate {rate!r}; there are some for "
            f"{', '.join(_TABLE)} at {', '.join(map(str, _RATES))}; for another graph use choose()"
        )
    at = {key: values[_RATES.index(rate)] for key, values in _TABLE[name].items()}
    return StableConfig(
        jaccard=float(at["jaccard"]),
        beta=float(at["beta"]),
        cosine=float(at["cosine"]),
        k=int(at["k"]),
        alpha=float(at["alpha"]),
    )
