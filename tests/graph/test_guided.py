"""Guided models: scores of molecules and graphs, every method, the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

import graphdiff
from graphdiff.core.errors import ArgumentError
from graphdiff.graph.molecules import parse_smiles
from graphdiff.graph.rewards import GRAPH_SCORES, MOLECULE_SCORES, graph_key, molecule_key
from graphdiff.guide import METHODS, Guide


def test_scores_of_molecules_are_those_of_rdkit() -> None:
    from rdkit import Chem
    from rdkit.Chem import QED, Crippen, Descriptors

    text = "CC(=O)Oc1ccccc1C(=O)O"
    ours, theirs = parse_smiles(text), Chem.MolFromSmiles(text)
    score = {name: f(ours) for name, f in MOLECULE_SCORES.items()}
    assert score["qed"] == pytest.approx(QED.qed(theirs))
    assert score["logp"] == pytest.approx(Crippen.MolLogP(theirs))
    assert score["weight"] == pytest.approx(Descriptors.MolWt(theirs))
    assert score["tpsa"] == pytest.approx(63.6, abs=0.05)  # published value of aspirin
    assert (score["rings"], score["atoms"]) == (1, 13)
    assert score["sa"] < MOLECULE_SCORES["sa"](parse_smiles("C1CC2(C1)CC1(C2)OC2CC1N2"))
    assert molecule_key(ours) == molecule_key(parse_smiles("OC(=O)c1ccccc1OC(C)=O"))
    with pytest.raises(ValueError, match="empty"):
        MOLECULE_SCORES["qed"](Chem.Mol())


def test_scores_of_graphs() -> None:
    wheel = nx.wheel_graph(6)  # a hub and a ring of five
    score = {name: f(wheel) for name, f in GRAPH_SCORES.items()}
    assert (score["edges"], score["triangles"], score["diameter"]) == (10, 5, 2)
    assert score["degree"] == pytest.approx(20 / 6)
    assert score["density"] == pytest.approx(10 / 15)
    assert score["clustering"] == pytest.approx(nx.average_clustering(wheel))
    assert (score["connected"], score["planar"]) == (1, 1)
    pieces = nx.disjoint_union(nx.complete_graph(5), nx.path_graph(4))
    assert (GRAPH_SCORES["connected"](pieces), GRAPH_SCORES["planar"](pieces)) == (0, 0)
    assert GRAPH_SCORES["diameter"](pieces) == 1
    assert all(f(nx.Graph()) in (0, 1) for f in GRAPH_SCORES.values())
    assert graph_key(wheel) == graph_key(nx.Graph(reversed(list(wheel.edges))))
    assert graph_key(wheel) != graph_key(nx.cycle_graph(6))


@pytest.fixture(scope="module")
def model() -> graphdiff.Model:
    return graphdiff.load("defog-qm9")


@pytest.mark.parametrize("method", [m for m in METHODS if m != "gradient"])
def test_every_method_guides(method: Any, model: graphdiff.Model) -> None:
    """Twelve molecules of 12 steps: the reward rises, and a sample depends on its id alone."""
    reward = model.reward("qed")
    guide = Guide(reward, method, particles=6, alpha=0.02, draws=4)
    options = {"seed": 1, "steps": 12, "guide": guide}
    drawn = model.samples(12, **options)
    plain = model.samples(12, seed=1, steps=12)

    def mean(samples: Any) -> float:
        return float(np.mean([MOLECULE_SCORES["qed"](mol) for mol in samples.items]))

    assert mean(drawn) > mean(plain)
    again = model.samples(3, start=4, batch_size=2, **options)
    assert again.raw == drawn.raw[np.arange(4, 7)]
    assert drawn.info["network_calls_per_sample"] == 12 * guide.rows


def test_a_window_is_met_by_more_molecules(model: graphdiff.Model) -> None:
    guide = Guide(model.reward("logp:1..2"), "svdd", particles=8, alpha=0)
    count = []
    for given in (None, guide):
        items = model.samples(16, seed=2, steps=12, guide=given).items
        count.append(sum(1 <= MOLECULE_SCORES["logp"](mol) <= 2 for mol in items))
    assert count[1] > count[0] + 3


def test_models_with_a_chain_of_their_own_take_the_best() -> None:
    trees = graphdiff.load("hspectre-tree")
    reward = trees.reward("-1*diameter")
    options: dict[str, Any] = {"seed": 0, "steps": 4, "cond": {"size": 16}}
    best = trees.samples(4, guide=Guide(reward, "best", particles=6), **options)
    plain = trees.samples(4, **options)
    wide = [nx.diameter(g) for g in plain.items], [nx.diameter(g) for g in best.items]
    assert sum(wide[1]) < sum(wide[0])
    with pytest.raises(ArgumentError, match="use method 'best'"):
        trees.samples(2, guide=Guide(reward, "smc"), **options)


def test_continuous_models_are_guided_by_black_boxes_as_well() -> None:
    gdss = graphdiff.load("gdss-community-small")
    guide = Guide(gdss.reward("edges"), "svdd", particles=4, alpha=0)
    edges = [
        float(gdss.samples(4, seed=0, steps=6, guide=g).raw.num_edges.mean()) for g in (None, guide)
    ]
    assert edges[1] > edges[0]
    with pytest.raises(ArgumentError, match="discrete components"):
        gdss.samples(2, steps=2, guide=Guide(gdss.reward("edges"), "gilc", draws=2))


BAD = [
    ({"method": "smcc"}, "one of best, smc"),
    ({"particles": 0}, "particles"),
    ({"alpha": 0.0}, "alpha must be positive"),
    ({"method": "gilc", "draws": 1}, "draws"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[m for _, m in BAD])
def test_wrong_guides_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Guide(**{"reward": lambda s: torch.zeros(1), **change})


# -- the command line ----------------------------------------------------------------------------


def call(*words: object, rc: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "graphdiff", "sample", "defog-qm9", "-n", "4", "--steps", "6"]
    done = subprocess.run(
        [*command, *map(str, words)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == rc, done.stdout + done.stderr
    return done


def test_guided_samples_on_the_command_line(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(
        "def carbons(mol):\n    return sum(a.GetSymbol() == 'C' for a in mol.GetAtoms())\n"
    )
    guided = ("--guide", "svdd", "--guide-set", "particles=3", "--guide-set", "alpha=0")
    terms = ("--reward", "qed", "--reward", f"0.1*{own}:carbons")
    call(*guided, *terms, "--out", tmp_path / "a")
    request = json.loads((tmp_path / "a" / "samples.json").read_text())["request"]
    assert request["guide"]["method"] == "svdd"
    assert request["guide"]["particles"] == 3
    assert request["guide"]["reward"] == f"1*qed + 0.1*{own}:carbons"
    assert len((tmp_path / "a" / "samples.smi").read_text().splitlines()) == 4


def test_wrong_guidance_leaves_no_folder(tmp_path: Path) -> None:
    out = tmp_path / "s"
    for words, message in (
        (("--guide", "smc"), "needs a --reward; this model knows atoms, logp, qed"),
        (("--reward", "qed"), "add --guide METHOD"),
        (("--guide", "smc", "--reward", "qedd"), "unknown reward 'qedd'"),
        (("--guide", "smd", "--reward", "qed"), "unknown guidance 'smd'"),
        (("--guide", "smc", "--reward", "qed", "--guide-set", "prticles=3"), "unknown prticles"),
    ):
        done = call(*words, "--out", out, rc=2)
        assert message in done.stderr
        assert not out.exists()


def test_a_gradient_needs_a_differentiable_reward(model: graphdiff.Model) -> None:
    with pytest.raises(ArgumentError, match="needs a differentiable reward"):
        Guide(model.reward("qed"), "gradient")
    dna = graphdiff.load("mdlm-yeast-promoter")
    reward = dna.reward("oracle:regressor-yeast-a@ypd")

    def mean(**options: Any) -> float:
        states = dna.task.convert(dna.samples(16, seed=2, steps=20, **options), "state")
        return float(np.mean([float(reward(state)[0]) for state in states]))

    plain = mean()
    for method in ("gradient", "gilc", "twisted"):
        assert mean(guide=Guide(reward, method, particles=3, alpha=1.0, draws=2)) > plain


def test_rewards_may_ask_for_rings(model: graphdiff.Model) -> None:
    """Decoded molecules know their rings; fingerprints and descriptors need them."""
    for mol in model.sample(6, seed=3, steps=10):
        assert mol.GetRingInfo().NumRings() >= 0
