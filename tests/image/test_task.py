"""The task: configuration, losses, sampling, training and resuming through graphdiff."""

from __future__ import annotations

import math
import tomllib
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image

from graphdiff.config import split_config
from graphdiff.core.errors import ArgumentError, ConfigError
from graphdiff.core.rng import Key
from graphdiff.core.sampler import Sampler
from graphdiff.core.state import State
from graphdiff.task import Samples
from graphdiff.train import TrainConfig, Trainer
from graphdiff.train.checkpoint import load_weights
from imagediff.tasks import Images, ImageTask

SMALL = {"width": 8, "embed": 16}


def task(kind: str = "edm", **sections) -> ImageTask:
    config = {"kind": "image", "model": SMALL, "process": {"kind": kind}, **sections}
    return ImageTask.from_config(config)


def denoiser(made: ImageTask):
    """An untrained network whose answers are not zero."""
    network = made.build()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval().requires_grad_(False)


def template(made: ImageTask, n: int = 6, **cond) -> State:
    ids = torch.arange(n)
    return made.template(ids, made.sizes(ids, 0), pad=1, **cond)


# --- configuration ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "digits-vp"])
def test_shipped_configs_are_valid_and_round_trip(name):
    text = (files("imagediff") / "configs" / f"{name}.toml").read_text("utf-8")
    config, train = split_config(tomllib.loads(text))
    made = ImageTask.from_config(config)
    assert ImageTask.from_config(made.to_config()) == made
    assert TrainConfig.from_config(train).seed == made.config.seed


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"model": {"widht": 16}}, r"model\.widht: unknown key; did you mean 'width'"),
        ({"model": {"width": "16"}}, r"model\.width"),
        ({"model": {"width": 10}}, r"model\.width: found 10, expected a positive multiple"),
        ({"process": {"kind": "edm", "beta_max": 20.0}}, r"process\.beta_max: unknown key"),
        ({"process": {"kind": "ve"}}, r"process.*'ve'"),
        ({"process": {"kind": "edm", "sigma_min": 30.0}}, "0 < sigma_min < sigma_max"),
        ({"sample": {"solver": "magic"}}, r"sample\.solver"),
        ({"sample": {"steps": 0}}, r"sample\.steps: found 0, expected at least 1"),
        ({"data": {"name": "mnist"}}, r"data\.name"),
    ],
)
def test_a_wrong_config_is_refused_with_its_path(config, match):
    with pytest.raises(ConfigError, match=match):
        ImageTask.from_config({"kind": "image", **config})


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        ({"stpes": 3}, "takes steps and solver"),
        ({"steps": -1}, "steps"),
        ({"solver": "x"}, "solver"),
    ],
)
def test_wrong_sampler_overrides_are_refused(overrides, match):
    with pytest.raises(ConfigError, match=match):
        task().sampler(**overrides)


def test_the_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    first = task().build().state_dict()
    again, other = task().build().state_dict(), task(seed=1).build().state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


# --- losses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["edm", "vp"])
def test_the_loss_of_an_example_does_not_depend_on_its_batch(kind):
    made = task(kind)
    network, data, ids = denoiser(made), made.data(), torch.arange(8)
    whole = made.losses(network, data.batch(ids), Key(0, ids, step=3))["pixels"]
    part = made.losses(network, data.batch(ids[2:5]), Key(0, ids[2:5], step=3))["pixels"]
    assert whole.shape == (8,)
    torch.testing.assert_close(part, whole[2:5], rtol=1e-4, atol=1e-4)


def test_a_fresh_edm_network_has_a_loss_of_about_one():
    # Preconditioning gives the network targets of variance (E[x^2] s^2/d^2 + d^2) / (s^2 + d^2),
    # with d the data_std of the config, which is centred; E[x^2] of the uncentred pixels is .717.
    made = task()
    ids = torch.arange(1024)
    with torch.no_grad():
        losses = made.losses(made.build(), made.data().batch(ids), Key(0, ids, step=1))
    loss = losses["pixels"].mean()
    assert 0.8 < float(loss) < 0.717 / 0.75**2 + 0.2


@pytest.mark.parametrize("kind", ["edm", "vp"])
def test_training_clocks_cover_what_the_sampler_asks(kind):
    made = task(kind)
    clock = made.config.process.clock(Key(0, torch.arange(4000)))
    times = made.sampler().compile().times
    assert clock.dtype == torch.float64
    assert 0 <= float(clock.min()) <= max(times[-2], 0.05)
    assert float(clock.max()) <= 1
    assert float(clock.max()) > 0.9


def test_hidden_classes_reach_the_network_at_the_share_of_the_config():
    made = task(model={**SMALL, "class_dropout": 0.25})
    seen = []
    network = denoiser(made)
    network.net.register_forward_hook(lambda _m, given, _o: seen.append(given[3]["label"]))
    ids = torch.arange(1449)
    clean = made.data().batch(ids)
    made.losses(network, clean, Key(0, ids, step=1))
    hidden = seen[0] == 10
    share, n = float(hidden.float().mean()), len(ids)
    assert abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / n)
    assert torch.equal(seen[0][~hidden], clean["label"][~hidden])


# --- sampling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["edm", "vp"])
def test_the_chain_is_that_of_the_core_sampler_bit_for_bit(kind):
    made = task(kind)
    network, ours = denoiser(made), made.sampler(steps=5)
    given = template(made)
    out = ours(network, given, seed=4)
    core = Sampler(ours.process, ours.solvers, ours.times)
    bare = State({"pixels": given["pixels"]}, {}, given.ids)
    expected = core(network, bare, seed=4, cond={"label": given["label"]})
    assert torch.equal(out["pixels"], expected["pixels"])
    assert torch.equal(out["label"], given["label"])


def test_twenty_steps_are_twenty_network_calls():
    for kind in ("edm", "vp"):
        assert task(kind).sampler().network_calls == 20
        assert task(kind).sampler(solver="heun", steps=10).network_calls == 20


@pytest.mark.parametrize("solver", ["dpm-solver++", "unipc", "heun", "ddim"])
@pytest.mark.parametrize("kind", ["edm", "vp"])
def test_every_solver_finishes(kind, solver):
    made = task(kind)
    out = made.sampler(steps=4, solver=solver)(denoiser(made), template(made), seed=0)
    assert out["pixels"].isfinite().all()


def test_a_sample_does_not_depend_on_its_batch():
    made = task()
    network, sampler, whole = denoiser(made), made.sampler(steps=6), template(made)
    out = sampler(network, whole, seed=1)
    part = sampler(network, whole.select(torch.tensor([5, 2])), seed=1)
    torch.testing.assert_close(part["pixels"], out["pixels"][[5, 2]], rtol=1e-4, atol=1e-4)
    assert part["label"].tolist() == [5, 2]


def test_a_stopped_chain_goes_on_with_its_condition():
    made = task()
    network, sampler, given = denoiser(made), made.sampler(steps=5), template(made)
    steps = list(sampler.steps(network, given, seed=1))
    rest = list(sampler.steps(network, given, seed=1, resume=steps[2]))
    assert torch.equal(rest[-1].state["pixels"], steps[-1].state["pixels"])
    assert torch.equal(rest[-1].state["label"], given["label"])


def test_labels_are_the_id_modulo_ten_unless_given():
    made = task()
    ids = torch.tensor([3, 19, 20])
    sizes = made.sizes(ids, 0)
    assert made.template(ids, sizes, pad=1)["label"].tolist() == [3, 9, 0]
    assert made.template(ids, sizes, pad=1, label=7)["label"].tolist() == [7, 7, 7]
    assert made.template(ids, sizes, pad=1, label=[1, 2, 3])["label"].tolist() == [1, 2, 3]


def test_guidance_of_one_adds_nothing_to_the_state():
    made = task()
    assert set(template(made, guidance=1.0).values) == {"pixels", "label"}
    weights = template(made, n=2, guidance=[1.0, 3.0])["guidance"]
    assert weights.tolist() == [1.0, 3.0]
    network, sampler = denoiser(made), made.sampler(steps=3)
    plain = sampler(network, template(made), seed=0)["pixels"]
    assert torch.equal(sampler(network, template(made, guidance=1), seed=0)["pixels"], plain)
    assert not torch.allclose(sampler(network, template(made, guidance=3), seed=0)["pixels"], plain)


@pytest.mark.parametrize(
    ("cond", "match"),
    [
        ({"label": 10}, "the classes are 0 to 9"),
        ({"label": -1}, "the classes are 0 to 9"),
        ({"label": [1, 2]}, "one for each of the 6"),
        ({"label": 1.5}, "expected whole numbers"),
        ({"label": "three"}, "expected a number"),
        ({"guidance": float("nan")}, "expected finite weights"),
        ({"guidance": -1.0}, "expected finite weights"),
        ({"lable": 1}, "takes label and guidance"),
    ],
)
def test_wrong_conditions_are_refused(cond, match):
    with pytest.raises(ArgumentError, match=match):
        template(task(), **cond)


# --- what a user gets ---------------------------------------------------------------------------


def samples(n: int) -> Samples:
    made = task()
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.uniform(-1.5, 1.5, (n, 1, 8, 8)).astype(np.float32))
    state = State({"pixels": pixels, "label": torch.arange(n) % 10}, {}, torch.arange(n))
    items, raw = made.decode(state)
    return Samples(list(range(n)), items, raw)


def test_decoding_real_digits_gives_them_back():
    made = task()
    data = made.data()
    items, raw = made.decode(data.batch(torch.arange(50)))
    assert np.array_equal(raw.ink(), data.split.ink[:50])
    assert np.array_equal(np.rint(np.stack(items) * (16 / 255)), data.split.ink[:50])


def test_raw_samples_are_not_clipped():
    raw = samples(4).raw
    assert np.abs(raw.pixels).max() > 1
    assert raw.ink().max() == 16


def test_join_reorders_images_and_labels_together():
    made, one = task(), samples(5).raw
    late, early = (Images(one.pixels[part], one.labels[part]) for part in (slice(3, 5), slice(3)))
    whole = made.join([late, early], [2, 3, 4, 0, 1])
    assert np.array_equal(whole.pixels, one.pixels)
    assert np.array_equal(whole.labels, one.labels)
    assert made.join([], []).pixels.shape == (0, 1, 8, 8)


def test_files_hold_what_was_sampled(tmp_path):
    made, drawn = task(), samples(23)
    written = made.write(drawn, tmp_path)
    assert [path.name for path in written] == ["samples.npz", "grid.png"]
    with np.load(tmp_path / "samples.npz") as archive:
        assert np.array_equal(archive["ink"], drawn.raw.ink())
        assert np.array_equal(archive["label"], drawn.raw.labels)
        assert np.array_equal(archive["pixels"], drawn.raw.pixels)
        assert archive["id"].tolist() == list(range(23))
    sheet = np.asarray(Image.open(tmp_path / "grid.png"))
    assert sheet.shape == (6 * (3 * 9 + 1), 6 * (10 * 9 + 1))
    # Row 2, column 1 is sample 21.
    assert np.array_equal(sheet[6 * 19 : 6 * 27 : 6, 6 * 10 : 6 * 18 : 6], drawn.items[21])


def test_conversions(tmp_path):
    made, drawn = task(), samples(3)
    assert made.convert(drawn, "array") is drawn.items
    assert [np.array_equal(np.asarray(i), a) for i, a in
            zip(made.convert(drawn, "pil"), drawn.items, strict=True)] == [True] * 3  # fmt: skip
    assert np.array_equal(torch.stack(made.convert(drawn, "torch")).numpy(), drawn.raw.pixels)
    assert [int(s["label"]) for s in made.convert(drawn, "state")] == [0, 1, 2]
    with pytest.raises(ArgumentError, match="'networkx'"):
        made.convert(drawn, "networkx")
    with pytest.raises(ArgumentError, match="nothing to draw"):
        made.draw(samples(0), tmp_path / "x.png")


# --- training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["edm", "vp"])
def test_twenty_steps_lower_the_loss(kind, tmp_path):
    made = task(kind)
    config = TrainConfig(steps=20, batch_size=64, lr=5e-3, ema=None, log_every=20)
    trainer = Trainer(made, config, tmp_path, device="cpu")
    trainer.run()
    trained, data, ids = made.build(), made.data(), torch.arange(512)
    trained.load_state_dict(load_weights(tmp_path, "weights"))
    with torch.no_grad():
        # The same examples, clocks and noise before and after: only the weights differ.
        before, after = (
            float(made.losses(network, data.batch(ids), Key(7, ids))["pixels"].mean())
            for network in (made.build(), trained)
        )
    assert after < 0.85 * before


def test_a_resumed_training_ends_with_the_same_bits(tmp_path):
    made = task()
    config = TrainConfig(steps=6, batch_size=32, log_every=1, checkpoint_every=2)
    Trainer(made, config, tmp_path / "whole", device="cpu").run()
    stopped = Trainer(made, config, tmp_path / "parts", device="cpu").events()
    for progress in stopped:
        if progress.step == 3:  # one step after a checkpoint, which is lost
            break
    stopped.close()
    Trainer(made, config, tmp_path / "parts", device="cpu").run()
    for which in ("weights", "ema"):
        whole, parts = (load_weights(tmp_path / run, which) for run in ("whole", "parts"))
        assert all(torch.equal(whole[name], parts[name]) for name in whole)
