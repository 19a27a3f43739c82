"""Over-smoothing: the measure is right, the GCN smooths, the presets build."""

from __future__ import annotations

import os

import pytest
import torch

from graphdiff.data.node_sets import node_set_names
from graphdiff.data.synthetic_nodes import contextual_blocks
from graphdiff.graph.sheaf import SheafConfig, SheafNetwork, Topology
from graphdiff.graph.sheaf.presets import preset
from graphdiff.graph.sheaf.smoothing import gcn_profile, profile, roughness, untrained


@pytest.fixture(scope="module")
def graph():
    data = contextual_blocks(120, 3, homophily=0.2)
    return Topology.of(data.edges, data.n), data.features


def test_roughness_is_the_energy_summed_over_edges(graph):
    topology, x = graph
    scaled = x / (topology.degree + 1).sqrt()[:, None]
    gaps = (scaled[topology.v] - scaled[topology.u]).square().sum() / 2
    assert roughness(topology, x) == pytest.approx(float(gaps / x.square().sum()), rel=1e-5)
    constant = (topology.degree + 1.0).sqrt()
    assert roughness(topology, constant) < 1e-6
    assert roughness(topology, torch.zeros(120, 2)) == 0


@pytest.mark.parametrize("norm", [False, True])
def test_profile_is_the_roughness_of_networks_that_end_earlier(graph, norm):
    topology, x = graph
    torch.manual_seed(0)
    net = SheafNetwork(SheafConfig(layers=3, hidden=4, norm=norm), x.shape[1], 3).eval()
    found, layers = profile(net, x, topology), net.layers
    wanted = []
    for k in range(4):
        net.layers = layers[:k]
        with torch.no_grad():
            wanted.append(roughness(topology, net.embed(x, topology)))
    assert found == pytest.approx(wanted, rel=1e-5)
    assert len(set(found)) == 4


def test_gcn_smooths_and_sheaf_networks_do_not(graph):
    topology, x = graph
    for seed in range(3):
        gcn = gcn_profile(topology, x, 16, 16, seed)
        assert len(gcn) == 17
        assert gcn[-1] < 0.01 * gcn[0]
    for maps in ("identity", "diagonal", "bundle"):
        config = SheafConfig(maps, 2, layers=16, hidden=8, identity_start=True)
        for curve in untrained(config, topology, x, range(3)):
            assert curve[-1] > 0.1 * curve[0]


def test_profiles_are_functions_of_their_seed(graph):
    topology, x = graph
    torch.manual_seed(7)
    first = gcn_profile(topology, x, 4, 8, 1)
    torch.manual_seed(8)
    assert gcn_profile(topology, x, 4, 8, 1) == first != gcn_profile(topology, x, 4, 8, 2)


@pytest.mark.parametrize("filter", ["diffusion", "chebyshev"])
@pytest.mark.parametrize("name", [*node_set_names(), "something else"])
def test_presets_build(name, filter):
    found = preset(name, filter)
    assert found.network.filter == filter
    SheafNetwork(found.network, 5, 3, 10)


@pytest.mark.skipif(
    not os.environ.get("GRAPHDIFF_DATA"), reason="GRAPHDIFF_DATA names no folder of data sets"
)
def test_suite_runs(tmp_path):
    from suites import load_suite

    suite = load_suite("sheaf")
    record = suite.run(True, tmp_path)
    assert {row["method"] for row in record["table"]} == {"mlp", "poly"}
    assert all(check["passed"] for check in record["checks"])
    assert suite.draw(record, tmp_path / "sheaf.png").stat().st_size > 10_000
