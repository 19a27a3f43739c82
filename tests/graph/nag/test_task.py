"""Diffusion of architectures as a task: encodings, training, samples that are counted honestly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import graphdiff
from graphdiff.core.errors import ArgumentError, CheckpointError, ConfigError, DataError
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.graph.nag.build import decode, encode
from graphdiff.graph.nag.spaces import DAG, MobileNetV3, NASBench201, NASBenchMacro
from graphdiff.graph.nag.task import NAGTask
from graphdiff.train import TrainConfig, Trainer

SPACES = (NASBench201(), MobileNetV3(), NASBenchMacro(), DAG())


def config(space: str, noise: str, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": "nag",
        "data": {"space": space, "split": "drawn", "count": 256},
        "noise": {"kind": noise},
        "model": {"kind": "dag", "layers": 1, "width": 32, "heads": 2},
        "sample": {"kind": "jump", "solver": "ancestral", "steps": 4},
    }
    if noise == "ve":
        found["sample"] = {"kind": "diffusion", "solver": "dpmpp", "steps": 4, "grid": "uniform",
                           "published": False, "end": 1e-3}  # fmt: skip
    return {**found, **more}


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
@pytest.mark.parametrize("continuous", [False, True])
def test_what_is_encoded_is_decoded(space: Any, continuous: bool) -> None:
    archs = space.draw(200, np.random.default_rng(0))
    state = encode(space, archs, torch.arange(200), continuous=continuous)
    back = decode(space, state)
    assert np.array_equal(back.ops, archs.ops)
    assert np.array_equal(back.wires, archs.wires)
    assert space.valid(back).all()


def test_a_place_with_several_types_or_none_is_undecided() -> None:
    """The published threshold; a blank type makes a row without an entry a member."""
    space = NASBench201()
    state = encode(space, space.everything()[:2], torch.arange(2), continuous=True)  # type: ignore[index]
    x = state["ops"].clone()
    x[0, 3] = -1.0
    x[1, 3, 2:4] = 0.2
    found = decode(space, state.replace(ops=x))
    assert found.ops[:, 3].tolist() == [-1, -1]
    assert not space.valid(found).any()
    mobile = MobileNetV3()
    archs = mobile.draw(1, np.random.default_rng(0))
    state = encode(mobile, archs, torch.arange(1), continuous=True)
    x = state["ops"].clone()
    x[0, 3] = -0.5
    assert decode(mobile, state.replace(ops=x)).ops[0, 3] == mobile.blank


def test_a_masked_place_is_undecided() -> None:
    space = NASBenchMacro()
    ops = torch.tensor([[0, 1, 2, 3, 0, 0, 0, 0]])  # 3 is the mask
    found = decode(space, State({"ops": ops}, {}, torch.arange(1)))
    assert found.ops[0].tolist() == [0, 1, 2, -1, 0, 0, 0, 0]
    assert not space.valid(found)[0]


@pytest.mark.parametrize("noise", ["absorbing", "marginal", "uniform", "ve"])
@pytest.mark.parametrize("space", ["nasbench201", "dag"])
def test_it_is_trained_sampled_and_written(space: str, noise: str, tmp_path: Path) -> None:
    task = NAGTask.from_config(config(space, noise))
    train = TrainConfig(steps=3, batch_size=16, lr=1e-3, warmup_steps=0)
    Trainer(task, train, tmp_path / "run").run()
    model = graphdiff.load(tmp_path / "run")
    samples = model.samples(6, seed=1)
    assert len(samples.items) == 6
    valid = model.task.space.valid(samples.raw)  # type: ignore[attr-defined]
    assert [item.valid for item in samples.items] == valid.tolist()
    # A directed graph in topological order whatever the network says.
    assert not np.tril(samples.raw.wires).any()
    files = model.task.write(samples, tmp_path / "out")
    assert [file.name for file in files] == ["samples.npz", "architectures.json"]
    again = model.samples(3, seed=1, start=3, batch_size=2)
    assert np.array_equal(again.raw.ops, samples.raw.ops[3:])
    assert [len(item.to_networkx()) for item in samples.items] == [
        d["nodes"].__len__() for d in model.task.convert(samples, "dict")
    ]


def test_the_loss_falls_and_samples_become_members() -> None:
    """Two hundred steps on the free graphs: edges and types are both learnt."""
    made = config("nasbench201", "absorbing", seed=1)
    made["model"] = {"kind": "dag", "layers": 2, "width": 32, "heads": 2}
    task = NAGTask.from_config(made)
    data = task.data()
    net = task.build()
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    losses = []
    for k in range(200):
        ids = torch.arange(64)
        clean = data.batch((ids * 7 + 13 * k) % len(data))
        found = task.losses(net, clean, Key(0, ids, step=k))
        loss = torch.stack([v.mean() for v in found.values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:20])
    net.eval()
    template = task.template(torch.arange(200), task.sizes(torch.arange(200), 0), pad=8)
    with torch.no_grad():
        state = task.sampler(solver="first_hitting", steps=8)(net, template, seed=0)
    assert task.space.valid(decode(task.space, state)).mean() > 0.9


def test_wrong_configs_name_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="unknown search space 'nasbench301'"):
        NAGTask.from_config(config("nasbench301", "absorbing"))
    with pytest.raises(ConfigError, match=r"sample\.kind"):
        NAGTask.from_config({**config("dag", "ve"), "sample": {"kind": "jump"}})
    wrong = {"kind": "jump", "solver": "first_hitting", "steps": 8}
    with pytest.raises(ConfigError, match=r"sample\.solver"):
        NAGTask.from_config({**config("dag", "marginal"), "sample": wrong})
    cate = NAGTask.from_config({**config("dag", "absorbing"), "model": {"kind": "cate"}})
    with pytest.raises(ConfigError, match="needs fixed wires"):
        cate.build()
    half = config("mobilenetv3", "absorbing")
    half["data"] = {"space": "mobilenetv3", "split": "half"}
    with pytest.raises(DataError, match="too many architectures to list"):
        NAGTask.from_config(half).data()
    with pytest.raises(ConfigError, match=r"data\.probs is empty"):
        NAGTask.from_config(config("dag", "marginal")).build()
    task = NAGTask.from_config(config("dag", "uniform"))
    with pytest.raises(ConfigError, match="takes no condition"):
        task.template(torch.arange(1), torch.tensor([8]), pad=8, label=1)


def test_the_training_half_is_a_half() -> None:
    data = NAGTask.from_config(
        {**config("nasbench201", "absorbing"), "data": {"space": "nasbench201"}}
    ).data()
    assert len(data) == 15_625 // 2
    assert len(np.unique(data.archs.ops, axis=0)) == len(data)
    assert data.fingerprint()["n"] == len(data)
    probs = np.array(data.facts.probs)
    np.testing.assert_allclose(probs[:2], 1 / 8)
    np.testing.assert_allclose(probs[2:], 0.15, atol=0.005)


def test_invalid_samples_have_no_score_and_no_state() -> None:
    space = NASBench201()
    task = NAGTask.from_config(config("nasbench201", "absorbing"))
    archs = space.draw(2, np.random.default_rng(0))
    ops = archs.ops.copy()
    ops[1, 3] = -1
    from graphdiff.task import Samples

    raw = space.wired(ops)
    samples = Samples([0, 1], task._output.items(raw), raw)
    assert task.item_key(samples.items[1]) is None
    assert task.item_key(samples.items[0]) == space.key(archs[0])
    with pytest.raises(ArgumentError, match="undecided places"):
        task.convert(samples, "state")
    with pytest.raises(ArgumentError, match="choose dict, networkx, module"):
        task.convert(samples, "smiles")
    assert str(samples.items[1]).split()[3] == "?"


def test_a_checkpoint_of_another_kind_is_no_generator() -> None:
    from graphdiff.graph.nag.search import Generator

    with pytest.raises(ArgumentError, match="needs a generator of architectures"):
        Generator(graphdiff.load("defog-qm9"))
    with pytest.raises(CheckpointError):
        graphdiff.load("nag-nothing")
