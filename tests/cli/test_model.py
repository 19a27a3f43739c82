"""The facade: ids, seeds, batches, conditions, and messages for wrong requests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import graphdiff
from graphdiff import ArgumentError, CheckpointError, ConfigError


def edges(graph) -> set:
    return {tuple(sorted(e)) for e in graph.edges()}


@pytest.fixture(scope="module")
def model(graph_model: Path) -> graphdiff.Model:
    return graphdiff.load(graph_model)


@pytest.fixture(scope="module")
def molecules(molecule_model: Path) -> graphdiff.Model:
    return graphdiff.load(molecule_model)


def test_a_sample_is_a_function_of_model_seed_and_id(model):
    whole = model.samples(24, seed=5, batch_size=24)
    small = model.samples(24, seed=5, batch_size=5)
    tail = model.samples(8, seed=5, start=16)
    assert list(whole.ids) == list(range(24))
    assert list(tail.ids) == list(range(16, 24))
    # The networks move by rounding with the shape of a batch; rounded to graphs they agree.
    assert [edges(g) for g in whole.items] == [edges(g) for g in small.items]
    assert [edges(g) for g in whole.items[16:]] == [edges(g) for g in tail.items]
    other = model.samples(24, seed=6)
    assert [edges(g) for g in whole.items] != [edges(g) for g in other.items]


def test_samples_do_not_touch_the_global_generator(model):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model.sample(3)
    assert torch.equal(before, torch.get_rng_state())


def test_raw_and_items_are_in_the_order_of_ids(model):
    found = model.samples(17, seed=1, batch_size=4)
    assert [g.number_of_nodes() for g in found.items] == found.raw.num_nodes.tolist()
    parts = list(model.sample_stream(17, seed=1, batch_size=4))
    assert all(len(part.ids) <= 4 for part in parts)
    assert sorted(i for part in parts for i in part.ids) == list(range(17))
    joined = model.join(parts)
    assert list(joined.ids) == list(range(17))
    assert joined.raw == found.raw


def test_sizes_follow_the_histogram_of_the_card(model):
    sizes = model.task.sizes(torch.arange(4000), 0)
    counts = np.bincount(sizes.numpy(), minlength=7) / 4000
    # four standard errors of a proportion
    np.testing.assert_allclose(counts, [0, 0, 0, 0.4, 0, 0.3, 0.3], atol=4 * (0.25 / 4000) ** 0.5)


def test_info_counts_network_calls(model):
    found = model.samples(10, batch_size=10, steps=3)
    assert found.info["network_calls_per_sample"] == model.sampler(steps=3).network_calls
    assert (
        found.info["network_calls"] == found.info["batches"] * model.sampler(steps=3).network_calls
    )
    assert found.info["n"] == 10
    assert found.info["seed"] == 0
    assert found.info["seconds"] > 0


def test_progress_ends_at_its_total(model):
    seen: list[tuple[int, int]] = []
    model.sample(9, batch_size=2, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == 9 * model.sampler().network_calls
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_skipped_ids_are_not_made_again(model):
    made = [i for part in model.sample_states(6, skip=[1, 4]) for i in part.state.ids.tolist()]
    assert sorted(made) == [0, 2, 3, 5]


def test_no_samples(model, molecules):
    for each in (model, molecules):
        assert each.sample(0) == []
        assert len(each.samples(0).raw) == 0
        assert list(each.sample_stream(0)) == []


def test_other_types(model, molecules):
    assert {type(m).__name__ for m in molecules.sample(2)} <= {"Mol", "RWMol"}
    assert all(isinstance(s, str) for s in molecules.sample(2, as_="smiles"))
    assert len(model.sample(2, as_="networkx")) == 2
    with pytest.raises(ArgumentError, match=r"'parquet'.*networkx"):
        model.sample(1, as_="parquet")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"n": -1}, r"n is -1, expected 0 <= n"),
        ({"n": 1.5}, r"n is 1.5, expected a whole number"),
        ({"n": True}, r"n is True, expected a whole number"),
        ({"n": 1, "start": -2}, r"start is -2"),
        ({"n": 2, "start": 2**48 - 1}, r"sample ids end at"),
        ({"n": 1, "seed": -1}, r"seed is -1"),
        ({"n": 1, "batch_size": 0}, r"batch_size is 0, expected 1 <="),
    ],
)
def test_wrong_numbers(model, call, message):
    with pytest.raises(ArgumentError, match=message):
        model.sample(**call)


def test_unknown_or_wrong_overrides(model):
    with pytest.raises(ConfigError, match=r"sample\.stepz: unknown key; did you mean 'steps'"):
        model.sample(1, stepz=3)
    with pytest.raises(ConfigError, match=r"sample\.solver.*'magic'"):
        model.sample(1, solver="magic")
    with pytest.raises(ConfigError, match="label"):
        model.sample(1, cond={"label": 3})


def test_a_condition_of_the_wrong_length(model):
    with pytest.raises(ArgumentError, match=r"'label' has 2 values, expected one, or one for each"):
        model.sample(3, cond={"label": [1, 2]})


def test_unknown_device(model):
    with pytest.raises(ArgumentError, match="cannot move to device 'nonsense'"):
        model.to("nonsense")
    assert model.to("cpu") is model


def test_unknown_model_lists_what_there_is():
    with pytest.raises(CheckpointError, match=r"no model is called 'gdss-qm10'.*shipped models"):
        graphdiff.load("gdss-qm10")


def test_a_folder_without_a_card(tmp_path):
    (tmp_path / "something.txt").write_text("x")
    with pytest.raises(CheckpointError, match=r"something\.txt; expected card\.json"):
        graphdiff.load(tmp_path)


def test_a_task_that_is_not_installed(graph_model, tmp_path):
    import json
    import shutil

    folder = shutil.copytree(graph_model, tmp_path / "m")
    card = json.loads((folder / "card.json").read_text())
    card["kind"] = "alchemy"
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(
        ConfigError, match=r"unknown task kind 'alchemy': installed kinds are .*gdss"
    ):
        graphdiff.load(folder)


def test_weights_of_another_network(graph_model, molecule_model, tmp_path):
    import json
    import shutil

    folder = shutil.copytree(graph_model, tmp_path / "m")
    shutil.copy(molecule_model / "weights.safetensors", folder)
    card = json.loads((folder / "card.json").read_text())
    card["files"] = json.loads((molecule_model / "card.json").read_text())["files"]
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match=r"do not fit the network of the card.*size mismatch"):
        graphdiff.load(folder)


def test_truncated_weights(graph_model, tmp_path):
    import shutil

    folder = shutil.copytree(graph_model, tmp_path / "m")
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="cut off"):
        graphdiff.load(folder)


def test_citations(model):
    text = model.citation()
    assert "@software{graphdiff" in text
    assert "jo2022gdss" in text
    assert "@misc{tiny" in text
    assert graphdiff.__version__ in graphdiff.citation()


def test_lazy_names():
    assert set(graphdiff.__all__) <= set(dir(graphdiff))
    for name in graphdiff.__all__:
        assert getattr(graphdiff, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        graphdiff.lode  # noqa: B018
