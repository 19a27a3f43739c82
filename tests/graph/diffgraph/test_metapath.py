"""Meta-paths: factored against multiplied out, gradients, memory, the published matrices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from graphdiff.core.errors import ArgumentError
from graphdiff.data import sources
from graphdiff.data.heco import load_heco
from graphdiff.data.hetero import HeteroGraph, hetero_graph
from graphdiff.graph.diffgraph.metapath import MetaPath, materialise
from graphdiff.graph.diffgraph.steps import Step, default_paths, parse_path, target_paths

LONG = "author-paper-venue-paper-author"
NORMS = ("walk", "row", "symmetric", "count")


def toy(seed: int = 0, authors: int = 30, papers: int = 80, venues: int = 3) -> HeteroGraph:
    """Papers with authors and one venue; author 0 wrote nothing, the last paper has no author."""
    rng = np.random.default_rng(seed)
    wrote = np.stack([rng.integers(0, papers - 1, 150), rng.integers(1, authors, 150)], 1)
    shown = np.stack([np.arange(papers), rng.integers(0, venues, papers)], 1)
    return hetero_graph(
        "author",
        {("paper", "by", "author"): wrote, ("paper", "at", "venue"): shown},
        np.arange(authors) % 2,
        sizes={"paper": papers},
    )


def dense(graph: HeteroGraph, path: str, norm: str) -> np.ndarray:
    """By numpy, from the definition."""
    factors = [step.matrix(graph).toarray() for step in parse_path(graph, path)]

    def inverse(d: np.ndarray) -> np.ndarray:
        return np.divide(1.0, d, out=np.zeros_like(d), where=d > 0)

    if norm == "walk":
        factors = [inverse(f.sum(1))[:, None] * f for f in factors]
    made = np.linalg.multi_dot(factors) if len(factors) > 2 else factors[0] @ factors[1]
    d = inverse(made.sum(1))
    if norm == "row":
        return d[:, None] * made
    if norm == "symmetric":
        return np.sqrt(d)[:, None] * made * np.sqrt(d)
    return made


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("path", ["author-paper-author", LONG])
def test_factored_is_the_dense_product(path, norm):
    graph = toy()
    made, whole = MetaPath.of(graph, path, norm, torch.float64), dense(graph, path, norm)
    x = np.random.default_rng(1).normal(size=(graph.n, 5))
    assert np.allclose(made(torch.from_numpy(x)).numpy(), whole @ x, atol=1e-12)
    assert np.allclose(made(torch.from_numpy(x[:, 0])).numpy(), whole @ x[:, 0], atol=1e-12)
    assert np.allclose(materialise(made).toarray(), whole, atol=1e-12)
    assert (whole[0] == 0).all()
    assert (made(torch.ones(graph.n, dtype=torch.float64))[0] == 0).all()


def test_walks_sum_to_one_and_symmetric_is_symmetric():
    graph = toy()
    ones = torch.ones(graph.n, dtype=torch.float64)
    means = MetaPath.of(graph, LONG, "row", torch.float64)(ones)
    assert means[0] == 0
    assert np.allclose(means[1:], 1, atol=1e-12)
    short = MetaPath.of(graph, "author-paper-author", "walk", torch.float64)(ones)
    assert np.allclose(short[1:], 1, atol=1e-12)
    # papers without an author are dead ends of the walk back from a venue
    walked = MetaPath.of(graph, LONG, "walk", torch.float64)(ones)
    assert (walked[1:] < 1).all()
    assert (walked[1:] > 0.5).all()
    whole = materialise(MetaPath.of(graph, LONG, "symmetric", torch.float64)).toarray()
    assert np.allclose(whole, whole.T, atol=1e-14)
    assert np.abs(np.linalg.eigvalsh(whole)).max() == pytest.approx(1.0)


def test_many_edges_weigh_more_where_they_are_counted():
    edges = {("a", "r", "b"): [[0, 0], [0, 0], [1, 0]]}
    once = hetero_graph("a", edges, [0, 1])
    twice = hetero_graph("a", edges, [0, 1], multi="count")
    assert materialise(MetaPath.of(once, "a-b-a", "count")).toarray().tolist() == [[1, 1], [1, 1]]
    assert materialise(MetaPath.of(twice, "a-b-a", "count")).toarray().tolist() == [[4, 2], [2, 1]]


@pytest.mark.parametrize("norm", NORMS)
def test_gradients(norm):
    made = MetaPath.of(toy(), LONG, norm, torch.float64)
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(made.shape[1], 2))).requires_grad_()
    assert torch.autograd.gradcheck(made, (x,))
    (slope,) = torch.autograd.grad(made(x)[:, 0].sum(), x)
    whole = materialise(made).toarray()
    assert np.allclose(slope[:, 0].numpy(), whole.sum(0), atol=1e-12)


class Largest(TorchDispatchMode):
    """Elements of the largest tensor, sparse ones by their entries, that an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(one, torch.Tensor):
                strided = one.layout == torch.strided
                self.found = max(self.found, one.numel() if strided else one._nnz())
        return out


def test_nothing_of_the_size_of_the_product_is_made():
    """With few venues the product is dense; its factors are not."""
    graph = toy(authors=400, papers=300, venues=2)
    product = materialise(MetaPath.of(graph, LONG, "count"))
    with Largest() as watch:
        path = MetaPath.of(graph, LONG, "symmetric")
    entries = sum(step.matrix(graph).nnz for step in parse_path(graph, LONG))
    # one application costs the entries of the factors, not those of the product
    assert path.nnz == entries < product.nnz / 10
    building = watch.found
    x = torch.ones(graph.n, 2, requires_grad=True)
    with Largest() as watch:
        path(x).sum().backward()
    assert watch.found <= path.peak(2) == 2 * 400
    assert max(building, watch.found) < product.nnz / 10


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("author", "joined by"),
        ("editor-paper", "joined by"),
        ("author-venue-author", "no relation joins"),
        ("author-[at]-paper", "no relation 'at'"),
        ("author-paper-[by]", "end it with a type"),
    ],
)
def test_paths_that_do_not_exist(path, what):
    with pytest.raises(ArgumentError, match=what):
        parse_path(toy(), path)


def test_several_relations_must_be_named():
    graph = hetero_graph(
        "p", {("p", "cites", "p"): [[0, 1]], ("p", "like", "p"): [[1, 2]]}, [0, 1, 0],
        sizes={"p": 3},
    )  # fmt: skip
    with pytest.raises(ArgumentError, match="say which"):
        parse_path(graph, "p-p")
    made = MetaPath.of(graph, "p-[cites]-p", "symmetric")
    assert materialise(made).toarray().tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert {p[0].key[1] for p in default_paths(graph)} == {"cites", "like"}


def test_names_may_contain_what_joins_them():
    relations = {("my-doc", "has-a", "tag"): [[0, 0], [1, 0]], ("my-doc", "a", "tag"): [[1, 1]]}
    graph = hetero_graph("my-doc", relations, [0, 1], sizes={"tag": 2})
    steps = parse_path(graph, "my-doc-[has-a]-tag-[a]-my-doc")
    assert [(s.key[1], s.back) for s in steps] == [("has-a", False), ("a", True)]
    with pytest.raises(ArgumentError, match="say which"):
        parse_path(graph, "my-doc-tag-my-doc")
    with pytest.raises(ArgumentError, match="joined by"):
        parse_path(graph, "my-doc-[has]-tag")
    assert MetaPath.of(graph, "my-doc-[a]-tag").transposed.name == "tag-my-doc"


def test_a_path_with_two_readings_is_refused():
    relations = {("a", "r", "b"): [[0, 0]], ("a-b", "s", "b"): [[0, 0]]}
    graph = hetero_graph("a", relations, {0: 0, 1: 1})
    assert len(parse_path(graph, "a-b-a")) == 2  # a-b and a have no relation
    more = hetero_graph("a", {**relations, ("a-b", "t", "a"): [[0, 0]]}, {0: 0, 1: 1})
    with pytest.raises(ArgumentError, match="read as a-b - a or as a - b - a"):
        parse_path(more, "a-b-a")


def test_paths_of_a_classifier_lead_from_the_target_to_itself():
    graph = toy()
    by = ("paper", "by", "author")
    assert target_paths(graph) == default_paths(graph)
    assert target_paths(graph, ["author-paper-author"]) == ((Step(by, True), Step(by)),)
    for path in ("author-paper", "paper-author", "paper-venue-paper", (Step(by),)):
        with pytest.raises(ArgumentError, match="must start and end at 'author'"):
            target_paths(graph, [LONG, path])
    for wrong in ([], "author-paper-author"):
        with pytest.raises(ArgumentError, match="expected a list of one meta-path"):
            target_paths(graph, wrong)


@pytest.mark.parametrize("norm", NORMS)
def test_a_relation_without_edges_propagates_zero(norm):
    graph = toy()
    key = ("paper", "at", "venue")
    bare = replace(graph, relations={**graph.relations, key: sp.csr_array((80, 3))})
    made = MetaPath.of(bare, LONG, norm)
    assert torch.equal(made(torch.ones(graph.n, 2)), torch.zeros(graph.n, 2))


def test_symmetric_needs_a_palindrome():
    graph = toy()
    steps = (Step(("paper", "by", "author"), True), Step(("paper", "at", "venue")))
    with pytest.raises(ArgumentError, match="backwards"):
        MetaPath.of(graph, steps, "symmetric")
    made = MetaPath.of(graph, steps, "row", torch.float64)
    assert made.shape == (30, 3)
    assert torch.allclose(
        made(torch.ones(3, dtype=torch.float64))[1:].max(), torch.ones(()).double()
    )
    with pytest.raises(ArgumentError, match="norm is"):
        MetaPath.of(graph, steps, "mean")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="starts at"):
        MetaPath.of(graph, (steps[1], steps[1]))


def test_default_paths_go_out_and_back():
    names = {MetaPath.of(toy(), p).name for p in default_paths(toy())}
    assert names == {"author-paper-author", LONG}


def test_materialise_keeps_to_its_limit():
    with pytest.raises(ArgumentError, match="more than the limit"):
        materialise(MetaPath.of(toy(), LONG, "count"), limit=50)


def test_binary_is_another_operator():
    """Pairs who met once count as much as those who met often: no factored product does that."""
    path = MetaPath.of(toy(), LONG, "row", torch.float64)
    counted, binary = materialise(path).toarray(), materialise(path, binary=True).toarray()
    assert ((counted > 0) == (binary > 0)).all()
    assert np.allclose(binary.sum(1)[1:], 1)
    assert np.abs(counted - binary).max() > 0.01


def held(name: str) -> bool:
    return all(sources.find([entry["file"]]) for entry in sources.card(f"heco-{name}")["files"])


@pytest.mark.parametrize(
    ("name", "path", "file"),
    [
        ("dblp", "author-paper-author", "apa"),
        ("dblp", "author-paper-conference-paper-author", "apcpa"),
        ("aminer", "paper-author-paper", "pap"),
        ("aminer", "paper-reference-paper", "prp"),
        ("acm", "paper-author-paper", "pap"),
        ("acm", "paper-subject-paper", "psp"),
    ],
)
def test_the_published_matrices_are_our_products_made_binary(name, path, file):
    if not held(name):
        pytest.skip(f"GRAPHDIFF_DATA holds no heco-{name}")
    published = sp.load_npz(sources.find([f"heco_{name}/{file}.npz"])).tocsr()
    made = materialise(MetaPath.of(load_heco(name), path, "count"), binary=True)
    assert made.shape == published.shape
    assert made.nnz == published.nnz
    assert abs(made.astype(bool).astype(int) - published.astype(int)).count_nonzero() == 0
