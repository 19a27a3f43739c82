"""Configurations: TOML files into frozen dataclasses, with errors that name the full path.

A configuration has the top-level keys ``kind`` and ``seed`` and tables such as ``[data]``,
``[model]``, ``[train]`` and ``[sample]``. ``[train]`` is a
:class:`graphdiff.train.config.TrainConfig`; everything else belongs to the task of that kind.
"""

from __future__ import annotations

import copy
import difflib
import json
import tomllib
from collections.abc import Hashable, Iterable, Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, cast

from graphdiff.core.errors import ConfigError

__all__ = [
    "apply_overrides",
    "named_configs",
    "resolve_config",
    "split_config",
    "validate",
    "with_settings",
]

T = TypeVar("T")


def validate(cls: type[T], config: Mapping[str, Any], *, where: str = "config") -> T:
    """Build ``cls`` (a dataclass, possibly nested, possibly with tagged unions) from plain values.

    Types are checked strictly: text is not a number, and a number is not a switch.

    Args:
        cls: The dataclass.
        config: Plain nested mapping, as TOML or JSON give it.
        where: Path of ``config``, the start of the paths in error messages.

    Raises:
        ConfigError: A key is unknown or missing, or a value is wrong; says its full path.
    """
    from pydantic import ValidationError

    try:
        text = json.dumps(config)
    except TypeError as error:
        raise ConfigError(
            f"{where}: {error}; expected plain numbers, text, lists and tables"
        ) from None
    adapter = _adapter(cast(Hashable, cls))
    try:
        value = adapter.validate_json(text, strict=True)
    except ValidationError as error:
        raise ConfigError(_explain(error, json.loads(text), where)) from error.__cause__
    unknown = list(_unknown(json.loads(text), adapter.dump_python(value, mode="json"), where))
    if unknown:
        raise ConfigError("; ".join(unknown))
    built: T = value
    return built


def with_settings(sample: T, overrides: Mapping[str, Any]) -> T:
    """A copy of a sampling configuration (a dataclass) with some fields replaced.

    Raises:
        ConfigError: An override is unknown or out of range.
    """
    return validate(type(sample), {**vars(sample), **overrides}, where="sample")


def resolve_config(name_or_path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Load a named configuration or a TOML file and apply overrides such as ``train.lr=1e-4``.

    Raises:
        ConfigError: There is no such configuration, it is not TOML, or an override is malformed.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.is_file():
        source, text = str(path), _read(path)
    else:
        folder = files("graphdiff") / "configs"
        entry = folder / f"{name_or_path}.toml"
        if not entry.is_file():
            near = difflib.get_close_matches(str(name_or_path), named_configs(), 3)
            known = ", ".join(near or named_configs()) or "none"
            raise ConfigError(
                f"no configuration {str(name_or_path)!r}: it is neither a .toml file nor one of "
                f"the named configurations ({'did you mean ' if near else 'there are '}{known})"
            )
        source, text = str(name_or_path), entry.read_text(encoding="utf-8")
    try:
        config = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is not valid TOML: {error}") from error
    if not isinstance(config.get("kind"), str):
        raise ConfigError(f'{source}: `kind` is missing; expected kind = "…" at the top')
    return apply_overrides(config, overrides)


def named_configs() -> list[str]:
    """Names of the configurations that come with graphdiff."""
    folder = files("graphdiff") / "configs"
    if not folder.is_dir():
        return []
    names = (entry.name for entry in folder.iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def split_config(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A configuration as ``(task, train)``; the training takes the top-level seed by default."""
    task = {key: value for key, value in config.items() if key != "train"}
    train = dict(config.get("train", {}))
    if "seed" in config:
        train.setdefault("seed", config["seed"])
    return task, train


def apply_overrides(config: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of ``config`` with each ``a.b=value`` set; values are TOML, bare words are text.

    ``none`` stands for no value.

    Raises:
        ConfigError: An override lacks ``=``, or its path leads through a value.
    """
    result = copy.deepcopy(dict(config))
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = [key.strip() for key in path.split(".")]
        if not equals or not all(keys):
            raise ConfigError(f"override {override!r}: expected the form table.key=value")
        table = result
        for depth, key in enumerate(keys[:-1], 1):
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise ConfigError(
                    f"override {override!r}: {'.'.join(keys[:depth])} is a value, not a table"
                )
        table[keys[-1]] = _value(text.strip())
    return result


def _value(text: str) -> Any:
    if text.lower() in ("none", "null"):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from error


@lru_cache(maxsize=64)
def _adapter(cls: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _explain(error: Any, config: Any, where: str) -> str:
    """All problems that pydantic found, each with its path."""
    messages = []
    for problem in error.errors():
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, ConfigError):
            messages.append(str(cause))
            continue
        # Union branches appear in the location by name; only keys of the input are a path.
        keys, node = [], config
        for part in problem["loc"]:
            places = range(len(node)) if isinstance(node, list) else node
            if isinstance(node, dict | list) and part in places:
                keys.append(str(part))
                node = node[part]
        last = problem["loc"][-1] if problem["loc"] else ""
        if problem["type"] == "missing":
            path = ".".join([where, *keys, str(last)])
            near = difflib.get_close_matches(str(last), list(map(str, node or ())), 1)
            hint = f"; did you mean it by {near[0]!r}?" if near else ""
            messages.append(f"{path}: missing, it must be given{hint}")
        else:
            text = problem["msg"].removeprefix("Value error, ")
            messages.append(
                f"{'.'.join([where, *keys])}: found {node!r}, {text[:1].lower()}{text[1:]}"
            )
    return "; ".join(dict.fromkeys(messages))


def _unknown(found: Any, used: Any, where: str) -> Iterable[str]:
    """Keys of the input that the built value does not have."""
    if isinstance(found, dict) and isinstance(used, dict):
        for key, value in found.items():
            if key in used:
                yield from _unknown(value, used[key], f"{where}.{key}")
                continue
            near = difflib.get_close_matches(key, list(used), 1)
            known = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(used)}"
            yield f"{where}.{key}: unknown key; {known}"
    elif isinstance(found, list) and isinstance(used, list):
        for index, (value, kept) in enumerate(zip(found, used, strict=False)):
            yield from _unknown(value, kept, f"{where}.{index}")
