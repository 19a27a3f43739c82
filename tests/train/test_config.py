"""Configurations: every mistake is named by its full path, and overrides mean what TOML means."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from graphdiff.config import (
    apply_overrides,
    named_configs,
    resolve_config,
    split_config,
    validate,
)
from graphdiff.core.errors import ConfigError
from graphdiff.train import TrainConfig


@dataclass(frozen=True)
class Mlp:
    kind: Literal["mlp"] = "mlp"
    width: int = 8


@dataclass(frozen=True)
class Attention:
    kind: Literal["attention"]
    heads: int
    widths: tuple[int, ...] = (1, 2)


Net = Annotated[Mlp | Attention, Field(discriminator="kind")]


@dataclass(frozen=True)
class Config:
    name: str
    rate: float = 1.0
    net: Net = field(default_factory=Mlp)
    nets: tuple[Net, ...] = ()
    pair: tuple[int, int] = (0, 1)


def test_nested_values_become_dataclasses() -> None:
    config = validate(
        Config,
        {"name": "a", "rate": 2, "net": {"kind": "attention", "heads": 2, "widths": [3, 4]}},
    )
    assert config == Config("a", 2.0, Attention("attention", 2, (3, 4)))


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ({}, ["cfg.name", "missing"]),
        ({"nam": "a"}, ["cfg.name", "missing", "'nam'"]),
        ({"name": "a", "rat": 1.0}, ["cfg.rat", "unknown", "'rate'"]),
        ({"name": "a", "rate": "1"}, ["cfg.rate", "'1'", "number"]),
        ({"name": 3}, ["cfg.name", "3", "string"]),
        ({"name": "a", "net": {"kind": "mlp", "width": 1.5}}, ["cfg.net.width", "1.5", "integer"]),
        ({"name": "a", "net": {"kind": "mlp", "depth": 1}}, ["cfg.net.depth", "unknown", "width"]),
        ({"name": "a", "net": {"kind": "cnn"}}, ["cfg.net", "cnn", "mlp", "attention"]),
        ({"name": "a", "net": {"kind": "attention"}}, ["cfg.net.heads", "missing"]),
        ({"name": "a", "nets": [{"kind": "mlp"}, {"kind": "mlp", "x": 1}]}, ["cfg.nets.1.x"]),
        ({"name": "a", "nets": [{"kind": "mlp", "width": "w"}]}, ["cfg.nets.0.width", "'w'"]),
        ({"name": "a", "pair": [1]}, ["cfg.pair.1", "missing"]),
        ({"name": "a", "rate": True}, ["cfg.rate", "True"]),
        ({"name": {1, 2}}, ["cfg", "set"]),
    ],
)
def test_errors_name_the_full_path(config: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Config, config, where="cfg")
    for part in parts:
        assert part in str(caught.value)


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ConfigError, match=r"cfg\.name.*cfg\.rate"):
        validate(Config, {"name": 1, "rate": "x"}, where="cfg")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({}, "both"),
        ({"steps": None, "epochs": None}, "neither"),
        ({"epochs": None, "batch_size": 0}, "train.batch_size: found 0"),
        ({"epochs": None, "lr": -1.0}, "train.lr"),
        ({"epochs": None, "betas": [0.9, 1.0]}, "train.betas"),
        ({"epochs": None, "optimizer": "sgd"}, "train.optimizer"),
        ({"epochs": None, "warm_up_steps": 3}, "'warmup_steps'"),
    ],
)
def test_training_table(changes: dict[str, object], part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_config({"steps": 1, "epochs": 1, **changes})
    assert part in str(caught.value)


def test_training_table_round_trip() -> None:
    config = TrainConfig(epochs=3, betas=(0.5, 0.9), clip=1.0, ema=None)
    assert TrainConfig.from_config(config.to_config()) == config


def test_overrides() -> None:
    config = {"a": {"b": 1, "c": "x"}, "d": 2}
    changed = apply_overrides(
        config, ["a.b=2.5", "a.c=word", "new.deep.key=[1, 2]", "d=none", "e='1'", "f=true"]
    )
    assert changed == {
        "a": {"b": 2.5, "c": "word"},
        "new": {"deep": {"key": [1, 2]}},
        "d": None,
        "e": "1",
        "f": True,
    }
    assert config == {"a": {"b": 1, "c": "x"}, "d": 2}


@given(st.one_of(st.integers(-(2**62), 2**62), st.floats(allow_nan=False), st.booleans()))
@settings(max_examples=50, deadline=None)
def test_override_values_are_toml(value: float) -> None:
    text = str(value).lower()
    assert apply_overrides({}, [f"x={text}"]) == {"x": value}


@pytest.mark.parametrize("override", ["a", "=1", "a..b=1", "a.b.c=1"])
def test_malformed_overrides(override: str) -> None:
    with pytest.raises(ConfigError, match="override"):
        apply_overrides({"a": {"b": 1}}, [override])


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('kind = "k"\nseed = 4\n[train]\nlr = 0.1\n[model]\nwidth = 3\n')
    config = resolve_config(path, ["train.lr=0.2"])
    task, train = split_config(config)
    assert task == {"kind": "k", "seed": 4, "model": {"width": 3}}
    assert train == {"lr": 0.2, "seed": 4}
    path.write_text("kind = \n")
    with pytest.raises(ConfigError, match=r"run\.toml is not valid TOML"):
        resolve_config(path)
    path.write_text("seed = 1\n")
    with pytest.raises(ConfigError, match="kind"):
        resolve_config(path)
    with pytest.raises(ConfigError, match=r"cannot read.*gone\.toml"):
        resolve_config(tmp_path / "gone.toml")
    with pytest.raises(ConfigError, match="no configuration 'gone'"):
        resolve_config("gone")


@pytest.mark.parametrize("name", named_configs())
def test_named_configs_hold_a_valid_training(name: str) -> None:
    config = resolve_config(name)
    _, train = split_config(config)
    assert TrainConfig.from_config(train).lr > 0
