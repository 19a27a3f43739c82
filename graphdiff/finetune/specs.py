"""Rewards as they are written: ``[WEIGHT*]NAME[:LOW..HIGH]``.

A name is that of a score, ``FILE.py:FUNCTION``, or ``PREFIX[:TEXT]`` for what a task makes itself
(``oracle:NAME@TARGET`` for sequences, ``valid`` for molecules).
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from graphdiff.core.errors import ArgumentError
from graphdiff.core.state import State
from graphdiff.finetune.reward import ItemReward, Reward, Score, Sum, Window

__all__ = ["OwnScore", "parse_rewards"]


@dataclass(frozen=True)
class OwnScore:
    """A user's function, found by file (or module) and name; also in other processes.

    Attributes:
        place: ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``.
    """

    place: str

    def __call__(self, item: Any) -> float:
        """The score of an item."""
        return float(self.function(item))

    @cached_property
    def function(self) -> Score:
        """The function itself.

        Raises:
            ArgumentError: There is no such file, module or function.
        """
        source, colon, name = self.place.rpartition(":")
        if not colon or not source or not name:
            raise ArgumentError(f"expected FILE.py:FUNCTION, found {self.place!r}")
        path = Path(source).expanduser()
        if path.suffix == ".py":
            if not path.is_file():
                raise ArgumentError(
                    f"there is no file {path}; a reward is given as FILE.py:FUNCTION"
                )
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            try:
                module = importlib.import_module(source)
            except ImportError as error:
                raise ArgumentError(
                    f"cannot import {source!r} of {self.place!r}: {error}"
                ) from error
        found = getattr(module, name, None)
        if not callable(found):
            known = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
            raise ArgumentError(
                f"{source} has no function {name!r}; it has {', '.join(known) or 'none'}"
            )
        function: Score = found
        return function


def parse_rewards(
    specs: Sequence[str],
    scores: Mapping[str, Score],
    decode: Callable[[State], Sequence[Any]],
    *,
    key: Callable[[Any], Hashable | None] | None = None,
    workers: int = 0,
    makers: Mapping[str, Callable[[str], Reward]] | None = None,
) -> Reward:
    """The sum of ``[WEIGHT*]NAME[:LOW..HIGH]``; a name is known, or ``FILE.py:FUNCTION``.

    Args:
        specs: The terms.
        scores: Known scores of an item by name.
        decode: Finished states to items.
        key: What equal items share.
        workers: Processes that score.
        makers: Rewards that are no score of an item, by the prefix of their name.

    Raises:
        ArgumentError: A term is malformed or unknown; it is named, with what is known.
    """
    if not specs:
        raise ArgumentError("no reward is named; name one, for example 'qed'")
    parts = [_term(spec, scores, decode, key, workers, makers or {}) for spec in specs]
    return parts[0][1] if len(parts) == 1 and parts[0][0] == 1 else Sum(tuple(parts))


def _term(
    spec: str,
    scores: Mapping[str, Score],
    decode: Callable[[State], Sequence[Any]],
    key: Callable[[Any], Hashable | None] | None,
    workers: int,
    makers: Mapping[str, Callable[[str], Reward]],
) -> tuple[float, Reward]:
    star, name = spec.rpartition("*")[::2]
    weight = _number(star, spec) if star else 1.0
    head, colon, tail = name.rpartition(":")
    window: tuple[float, float] | None = None
    # ``..`` in the path of an oracle is no window.
    path = name.partition(":")[0] in makers and "/" in tail
    if colon and ".." in tail and not path:
        low, high = tail.split("..", 1)
        window, name = (_number(low, spec, -math.inf), _number(high, spec, math.inf)), head
    prefix, _, rest = name.partition(":")
    if prefix in makers and name not in scores:
        made = makers[prefix](rest)
        return weight, made if window is None else Window(made, *window)
    if name in scores:
        score: Score = scores[name]
    elif ":" in name:
        score = OwnScore(name)
        score.function  # noqa: B018  (a wrong one is named now, not in the first batch)
    else:
        raise ArgumentError(
            f"unknown reward {name!r} in {spec!r}: this model knows "
            f"{', '.join([*sorted(scores), *(f'{p}[:NAME]' for p in makers)]) or 'none'}; or give "
            "your own as FILE.py:FUNCTION"
        )
    reward: Reward = ItemReward(decode, score, name, key, workers)
    return weight, reward if window is None else Window(reward, *window)


def _number(text: str, spec: str, empty: float | None = None) -> float:
    if not text.strip() and empty is not None:
        return empty
    try:
        return float(text)
    except ValueError as error:
        raise ArgumentError(
            f"{text!r} in the reward {spec!r} is no number; expected [WEIGHT*]NAME[:LOW..HIGH]"
        ) from error
