r"""Prompts for text-to-graph generation: what a graph is, what its statistics are, or both.

A :class:`Meaning` is the content of a prompt: a domain, a level ("low", "medium", "high") of the
average degree, a level of the clustering coefficient, each of them or not. Levels are terciles
over the training graphs of a corpus: low up to the first, high above the second. :func:`say` puts
a meaning into words, from wordings of the domain, of the levels and of the sentence. Some wordings
are held out: they are never used in training and test whether a model understands others than the
sentences it was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from graphdiff.core.errors import ArgumentError
from graphdiff.core.rng import Key

__all__ = [
    "KINDS",
    "LEVELS",
    "Meaning",
    "Terciles",
    "meanings",
    "prompts",
    "say",
    "variants",
    "wordings",
]

LEVELS = ("low", "medium", "high")
KINDS = ("domain", "statistics", "both")
"""What a prompt may tell: the domain, one or two statistics, or the domain and statistics."""

# Wordings for training, then held-out ones; all are the project's own.
_Wordings = tuple[tuple[str, ...], tuple[str, ...]]

_SENTENCES: _Wordings = (
    ("{}", "generate {}", "draw {}", "an example of {}", "I need {}", "please make {}",
     "something like {}", "I would like to see {}"),
    ("sample {}", "could you give me {}?", "create {} for me"),
)  # fmt: skip

_THINGS: _Wordings = (("a graph", "a network"), ("a connected graph",))

_DOMAINS: dict[str, _Wordings] = {
    "air": (
        ("a flight network", "airports and the flights between them", "an air traffic network",
         "an airline route map"),
        ("a network of airline connections", "a map of air routes"),
    ),
    "asn": (
        ("an animal social network", "animals that meet each other", "a network of dolphins",
         "social ties among animals"),
        ("associations between wild animals", "a dolphin society"),
    ),
    "bio": (
        ("a biological network", "a protein interaction network", "a gene network",
         "a network of genes and proteins"),
        ("interactions between proteins in a cell", "a gene association network"),
    ),
    "brain": (
        ("a brain network", "a connectome", "neurons and their connections",
         "a network of brain regions"),
        ("the wiring of a brain", "a neural connectivity network"),
    ),
    "chem": (
        ("a molecule", "a chemical structure", "a molecular graph", "atoms and bonds"),
        ("the bonds of a chemical compound", "a chemical molecule"),
    ),
    "citation": (
        ("a citation network", "papers that cite each other", "scientific articles and citations",
         "a network of cited papers"),
        ("citations between scientific papers", "a bibliography network"),
    ),
    "col": (
        ("a collaboration network", "scientists who write papers together",
         "a co-authorship network", "people who work together"),
        ("a network of co-authors", "collaborating researchers"),
    ),
    "copurchase": (
        ("a co-purchase network", "products that are bought together", "items in the same basket",
         "a network of products in a shop"),
        ("goods often purchased together", "a product network of an online shop"),
    ),
    "eco": (
        ("a food web", "an ecological network", "species that eat each other",
         "predators and their prey"),
        ("who eats whom in an ecosystem", "a trophic network of species"),
    ),
    "email": (
        ("an e-mail network", "people who write e-mails to each other",
         "the mail traffic of a company", "an email exchange network"),
        ("senders and receivers of emails", "an email communication graph"),
    ),
    "power": (
        ("a power grid", "an electrical grid", "a power transmission network",
         "substations and power lines"),
        ("an electricity network", "the power supply of a country"),
    ),
    "road": (
        ("a road network", "streets and crossings", "a road map", "roads between towns"),
        ("a network of streets", "highways of a country"),
    ),
    "rt": (
        ("a retweet network", "users who retweet each other", "retweets on Twitter",
         "the spread of a tweet"),
        ("a Twitter network of retweets", "tweets that users pass on"),
    ),
    "soc": (
        ("a social network", "people who know each other", "friends and acquaintances",
         "an online community"),
        ("social ties between people", "a friendship network"),
    ),
    "socfb": (
        ("a Facebook network", "a Facebook friendship network", "friends on Facebook",
         "users of Facebook and their friends"),
        ("Facebook friends", "a part of the Facebook graph"),
    ),
    "tech": (
        ("a computer network", "routers of the Internet", "a technological network",
         "connected servers and routers"),
        ("the topology of the Internet", "a network of computers"),
    ),
    "web": (
        ("a web graph", "web pages and hyperlinks", "a network of websites",
         "pages that link to each other"),
        ("hyperlinks between web pages", "a graph of linked websites"),
    ),
}  # fmt: skip

_UNKNOWN: _Wordings = (("a {} network", "a network of the kind {}"), ("a graph of the kind {}",))

_DEGREE: tuple[_Wordings, ...] = (
    (
        ("low average degree", "few edges per node", "a small mean degree", "sparse connections",
         "a low number of edges", "nodes that have few neighbors", "a low edge density",
         "not many links between its nodes"),
        ("hardly any links per node", "a low number of neighbors per node"),
    ),
    (
        ("medium average degree", "a moderate number of edges per node", "an ordinary mean degree",
         "neither sparse nor dense connections", "a medium number of edges",
         "nodes that have some neighbors", "an intermediate edge density",
         "a fair number of links between its nodes"),
        ("a middling number of links per node", "a moderate number of neighbors per node"),
    ),
    (
        ("high average degree", "many edges per node", "a large mean degree", "dense connections",
         "a high number of edges", "nodes that have many neighbors", "a high edge density",
         "very many links between its nodes"),
        ("lots of links per node", "a high number of neighbors per node"),
    ),
)  # fmt: skip

_CLUSTERING: tuple[_Wordings, ...] = (
    (
        ("low clustering", "few triangles", "a small clustering coefficient",
         "neighbors that rarely know each other", "a low number of triangles", "weak clustering",
         "little transitivity", "not many closed triangles"),
        ("hardly any triangles", "a low degree of clustering"),
    ),
    (
        ("medium clustering", "some triangles", "a moderate clustering coefficient",
         "neighbors that sometimes know each other", "a medium number of triangles",
         "ordinary clustering", "intermediate transitivity", "a fair number of closed triangles"),
        ("a middling number of triangles", "a moderate degree of clustering"),
    ),
    (
        ("high clustering", "many triangles", "a large clustering coefficient",
         "neighbors that often know each other", "a high number of triangles", "strong clustering",
         "much transitivity", "very many closed triangles"),
        ("lots of triangles", "a high degree of clustering"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Terciles:
    """Where low ends and high begins.

    Attributes:
        degree: The two terciles of the average degree.
        clustering: The two terciles of the clustering coefficient.
    """

    degree: tuple[float, float]
    clustering: tuple[float, float]

    @classmethod
    def of(cls, degree: ArrayLike, clustering: ArrayLike) -> Terciles:
        """Terciles of some graphs, ``[G]`` each."""
        low, high = (np.quantile(np.asarray(v), [1 / 3, 2 / 3]) for v in (degree, clustering))
        return cls((float(low[0]), float(low[1])), (float(high[0]), float(high[1])))

    @classmethod
    def from_card(cls, card: Mapping[str, Sequence[float]]) -> Terciles:
        """Terciles as ``card["terciles"]`` of a corpus or a model has them."""
        (a, b), (c, d) = card["degree"], card["clustering"]
        return cls((float(a), float(b)), (float(c), float(d)))

    def levels(self, degree: ArrayLike, clustering: ArrayLike) -> NDArray[np.int64]:
        """Levels 0, 1, 2 of average degree and clustering of some graphs, ``int64 [G, 2]``."""
        pairs = ((self.degree, degree), (self.clustering, clustering))
        return np.stack([np.searchsorted(cut, np.asarray(v), side="left") for cut, v in pairs], 1)


@dataclass(frozen=True)
class Meaning:
    """What a prompt tells.

    Attributes:
        domain: Short name of a domain, or None.
        degree: Level of the average degree, 0, 1, 2 as in :data:`LEVELS`, or None.
        clustering: Level of the clustering coefficient, or None.

    Raises:
        ArgumentError: If it tells nothing, or a level is none.
    """

    domain: str | None = None
    degree: int | None = None
    clustering: int | None = None

    def __post_init__(self) -> None:
        levels = (self.degree, self.clustering)
        if self.domain is None and levels == (None, None):
            raise ArgumentError("a prompt must tell a domain or a statistic: give one of them")
        if any(level not in (None, 0, 1, 2) for level in levels):
            raise ArgumentError(f"levels are 0 (low), 1 (medium), 2 (high) or None, found {levels}")

    @property
    def kind(self) -> str:
        """One of :data:`KINDS`."""
        if self.domain is None:
            return "statistics"
        return "domain" if self.degree is None and self.clustering is None else "both"


def _choices(meaning: Meaning, held_out: bool) -> list[tuple[str, ...]]:
    """Wordings of sentence, thing, degree and clustering; order of the last two."""
    side = int(held_out)
    if meaning.domain is None:
        things = _THINGS[side]
    elif meaning.domain in _DOMAINS:
        things = _DOMAINS[meaning.domain][side]
    else:
        things = tuple(form.format(meaning.domain) for form in _UNKNOWN[side])
    degree = ("",) if meaning.degree is None else _DEGREE[meaning.degree][side]
    clustering = ("",) if meaning.clustering is None else _CLUSTERING[meaning.clustering][side]
    order = ("12", "21") if degree != ("",) and clustering != ("",) else ("12",)
    return [_SENTENCES[side], things, degree, clustering, order]


def _put(sentence: str, thing: str, degree: str, clustering: str, order: str) -> str:
    parts = [part for part in (degree, clustering) if part]
    if order == "21":
        parts.reverse()
    return sentence.format(f"{thing} with {' and '.join(parts)}" if parts else thing)


def say(meaning: Meaning, draw: Sequence[float], *, held_out: bool = False) -> str:
    """Puts a meaning into words.

    Args:
        meaning: What to tell.
        draw: Five numbers in [0, 1) that choose the wordings.
        held_out: Use the wordings that training never uses.
    """
    options = _choices(meaning, held_out)
    picked = [o[min(int(u * len(o)), len(o) - 1)] for o, u in zip(options, draw, strict=True)]
    return _put(*picked)


def variants(meaning: Meaning, *, held_out: bool = False) -> list[str]:
    """All sentences of a meaning, in a fixed order."""
    return [_put(*parts) for parts in product(*_choices(meaning, held_out))]


def wordings() -> list[str]:
    """All wordings of training: the texts whose words an encoder must know."""
    groups = [_SENTENCES, _THINGS, _UNKNOWN, *_DEGREE, *_CLUSTERING, *_DOMAINS.values()]
    return [text for training, _ in groups for text in training]


def meanings(
    domains: Sequence[str | None],
    levels: ArrayLike,
    key: Key,
    *,
    kinds: Sequence[str] = KINDS,
) -> list[Meaning]:
    """What to tell about some graphs, at random.

    The kind is uniform over ``kinds``; where statistics are told, it is the degree, the clustering
    or both with equal probability.

    Args:
        domains: Domain of each graph, ``[b]``.
        levels: Levels of degree and clustering of each graph, ``[b, 2]`` (:meth:`Terciles.levels`).
        key: Random streams, one a graph.
        kinds: Some of :data:`KINDS`.

    Raises:
        ArgumentError: If a kind is unknown, or a domain is asked for and not known.
    """
    if not kinds or any(kind not in KINDS for kind in kinds):
        raise ArgumentError(f"kinds must be some of {', '.join(KINDS)}, found {tuple(kinds)}")
    out = []
    draws = key.at(stream="meaning").uniform(2, torch.float64).tolist()
    for domain, (degree, clustering), (u, v) in zip(
        domains, np.asarray(levels).tolist(), draws, strict=True
    ):
        kind = kinds[int(u * len(kinds))]
        which = int(3 * v)
        told = kind != "domain"
        out.append(
            Meaning(
                None if kind == "statistics" else domain,
                degree if told and which != 1 else None,
                clustering if told and which != 0 else None,
            )
        )
    return out


def prompts(
    domains: Sequence[str | None],
    levels: ArrayLike,
    key: Key,
    *,
    kinds: Sequence[str] = KINDS,
    held_out: bool = False,
) -> list[str]:
    """A random prompt for each of some graphs; a graph's prompt depends on its key only.

    Args:
        domains: Domain of each graph, ``[b]``.
        levels: Levels of degree and clustering, ``[b, 2]``.
        key: Random streams; another ``step`` (the epoch) gives other words.
        kinds: Some of :data:`KINDS`.
        held_out: Use the wordings that training never uses.
    """
    told = meanings(domains, levels, key, kinds=kinds)
    draws = key.at(stream="wording").uniform(5, torch.float64).tolist()
    return [say(m, draw, held_out=held_out) for m, draw in zip(told, draws, strict=True)]
