"""Changes under edits of single edges: bounded for SPE, jumps where a basis must be chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from encoding_support import cycle, dense, hypercube

from graphdiff.core.errors import ArgumentError
from graphdiff.data.expressivity import cycle_set
from graphdiff.data.graphs import Graphs
from graphdiff.graph.encoding.laplacian import Eigenvectors
from graphdiff.graph.encoding.signnet import SignNet
from graphdiff.graph.encoding.spe import SPE, LightSPE
from graphdiff.graph.encoding.spectrum import laplacian
from graphdiff.graph.encoding.stability import edit_changes
from graphdiff.graph.encoding.walks import RandomWalks


def test_distances_are_those_of_the_laplacians() -> None:
    """Of the edge (0, 1) of a path, weakened by a half: written out by hand."""
    graphs = Graphs.from_lists([2], [[(0, 1)]])
    before = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double()
    after = laplacian(torch.tensor([[0.0, 0.5], [0.5, 0.0]]).double())
    torch.testing.assert_close(after, before)  # normalisation undoes a common factor
    seen = []

    def spy(adj, mask, spectrum):
        seen.append(adj)
        return adj.cumsum(1)[:, :, :1] * torch.tensor([[[1.0], [2.0]]])

    found = edit_changes(spy, graphs, strengths=(0.5, 1.0))
    np.testing.assert_allclose(found.distance, [[0, 2.0]], atol=1e-12)  # at 1 nothing is left
    assert [float(a[0, 0, 1]) for a in seen] == [1.0, 0.5, 0.0]
    # The encoding is (0, 2 w): spread sqrt(2) around its mean 1, change 2 s.
    np.testing.assert_allclose(found.change, [[1 / 2**0.5, 2 / 2**0.5]])
    np.testing.assert_allclose(found.ratio[0, 1], found.change[0, 1] / 2)


def symmetric() -> Graphs:
    return Graphs.from_lists([12, 8, 9], [cycle(12), hypercube(3), cycle(9)])


@pytest.mark.parametrize("kind", ["spe", "light", "walks"])
def test_smooth_encodings_change_in_proportion(kind: str) -> None:
    """Even on graphs full of eigenspaces: a tenth of an edit, a tenth of a change."""
    torch.manual_seed(0)
    make = {"spe": SPE, "light": LightSPE, "walks": RandomWalks}[kind]
    encode = make().double()
    for graphs in (symmetric(), cycle_set(6).graphs):
        # On a vertex-transitive graph an encoding is the same at every node; a pendant node helps.
        edited = Graphs.from_lists(
            graphs.num_nodes + 1,
            [np.concatenate([g.edges, [[0, int(g.num_nodes[0])]]]) for g in graphs],
        )
        found = edit_changes(encode, edited, strengths=(1e-5, 1e-4, 1e-3))
        np.testing.assert_allclose(found.change[:, 1] / found.change[:, 0], 10, rtol=0.05)
        np.testing.assert_allclose(found.change[:, 2] / found.change[:, 1], 10, rtol=0.05)


def test_chosen_bases_jump() -> None:
    """A hundred-thousandth of an edge rotates eigenspaces by angles of order one."""
    graphs = symmetric()
    torch.manual_seed(0)
    for encode in (Eigenvectors(4), SignNet().double()):
        small = edit_changes(encode, graphs, strengths=(1e-6, 1e-4))
        assert small.change[:, 0].max() > 1e-2
        assert small.change[:, 0].max() > 0.3 * small.change[:, 1].max()


def test_edits_are_drawn_by_the_seed() -> None:
    graphs, encode = cycle_set(5).graphs, RandomWalks(4)
    first, again, other = (
        edit_changes(encode, graphs, strengths=(1.0,), seed=seed).change for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_signs_are_fixed_for_those_that_need_it() -> None:
    graphs = cycle_set(8).graphs
    seen = []
    edit_changes(lambda adj, mask, s: (seen.append(s), s.vectors)[1], graphs, strengths=(0.1,))
    for s in seen:
        real = s.vectors.transpose(1, 2)[s.kept]
        assert float(real.gather(1, real.abs().argmax(1, keepdim=True)).min()) > 0
    assert dense(graphs)[0].shape[1] == seen[0].vectors.shape[1]


@pytest.mark.parametrize(
    ("graphs", "strengths", "encode", "words"),
    [
        (cycle_set(2).graphs, (0.0,), RandomWalks(2), "above 0 and at most 1"),
        (cycle_set(2).graphs, (), RandomWalks(2), "above 0 and at most 1"),
        (Graphs.from_lists([2, 3], [[(0, 1)], np.zeros((0, 2), int)]), (1.0,), RandomWalks(2),
         "needs an edge"),
        (Graphs.from_lists([6], [cycle(6)]), (1.0,), RandomWalks(2), "the same at every node"),
    ],
)  # fmt: skip
def test_bad_input(graphs, strengths, encode, words) -> None:
    with pytest.raises(ArgumentError, match=words):
        edit_changes(encode, graphs, strengths=strengths)
