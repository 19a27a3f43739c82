"""Sheaf mixing of a denoiser is diffusion over the sheaf of all pairs."""

from __future__ import annotations

import torch

from graphdiff.graph.nets.half import pair_ends
from graphdiff.graph.nets.sheaf_mixing import SheafMixing
from graphdiff.graph.sheaf import SheafLaplacian, Topology

B, N, HEADS, DX, DE = 2, 6, 3, 12, 5


def test_laplacian_equals_the_sparse_one_on_all_pairs():
    torch.manual_seed(0)
    mixing = SheafMixing(DX, DE, HEADS).double()
    i, j = pair_ends(N, torch.device("cpu"))
    x = torch.sin(torch.arange(B * N * DX, dtype=torch.float64)).view(B, N, DX)
    e = torch.cos(torch.arange(B * len(i) * DE, dtype=torch.float64)).view(B, len(i), DE)
    pair = torch.ones(B, len(i), 1, dtype=torch.float64)
    off, diagonal = mixing.laplacian(x, e, pair)

    topology = Topology.of(torch.stack([i, j]), N)
    place = {(int(a), int(b)): k for k, (a, b) in enumerate(zip(i, j, strict=True))}
    at = [
        place[min(v, u), max(v, u)]
        for v, u in zip(topology.v.tolist(), topology.u.tolist(), strict=False)
    ]
    for b in range(B):
        own, other = mixing.ends(x[b]).chunk(2, -1)
        about, gate = mixing.edge(e[b]).chunk(2, -1)
        maps = torch.tanh(own[topology.v] + other[topology.u] + about[at])
        weight = torch.sigmoid(gate[at])
        dense = SheafLaplacian.diagonal(topology, weight * maps).dense()
        for k in range(HEADS):
            block = dense[k::HEADS, k::HEADS]
            torch.testing.assert_close(block.diagonal(), diagonal[b, :, k])
            torch.testing.assert_close(block[i, j], off[b, :, k])


def test_padded_pairs_carry_nothing():
    torch.manual_seed(1)
    mixing = SheafMixing(DX, DE, HEADS).double()
    i, j = pair_ends(N, torch.device("cpu"))
    x = torch.sin(torch.arange(N * DX, dtype=torch.float64)).view(1, N, DX)
    e = torch.cos(torch.arange(len(i) * DE, dtype=torch.float64)).view(1, len(i), DE)
    real = ((i < N - 1) & (j < N - 1)).double()[None, :, None]
    whole = mixing(x, e, real)
    small = int(real.sum())
    alone = mixing(x[:, : N - 1], e[:, :small], torch.ones(1, small, 1, dtype=torch.float64))
    torch.testing.assert_close(whole[:, : N - 1], alone)
