"""Small constant tensors that are built once for each device: index tables, class frequencies."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

import torch

__all__ = ["table"]

P = ParamSpec("P")
T = TypeVar("T")


def table(build: Callable[P, T]) -> Callable[P, T]:
    """Remember the tensors that ``build`` made for its (hashable) arguments.

    They are built outside inference mode even when first needed inside it, because autograd
    refuses to save inference tensors, and sampling often comes before fine-tuning.
    """

    @wraps(build)
    def outside(*args: P.args, **kwargs: P.kwargs) -> T:
        with torch.inference_mode(False):
            return build(*args, **kwargs)

    return cast("Callable[P, T]", lru_cache(maxsize=256)(outside))
