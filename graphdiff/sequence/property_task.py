"""What tasks share that predict properties: they are trained like a model and never sampled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from torch import Tensor
from torch.nn import Parameter

from graphdiff.core.denoiser import Denoiser
from graphdiff.core.errors import ConfigError
from graphdiff.core.state import State
from graphdiff.task import Samples, Task

__all__ = ["PropertyTask"]


class PropertyTask(Task):
    """A task without samples; all that would make or show one is refused."""

    generates: ClassVar[bool] = False
    refusal: ClassVar[str]
    """Why it cannot be sampled, and what to do instead."""

    def groups(self, denoiser: Denoiser) -> dict[str, list[Parameter]]:
        """One group."""
        return {"net": list(denoiser.net.parameters())}

    def _refuse(self) -> NoReturn:
        raise ConfigError(self.refusal)

    def sampler(self, **overrides: Any) -> NoReturn:
        """Always refused.

        Raises:
            ConfigError: Always, as in the methods below.
        """
        self._refuse()

    def sizes(self, ids: Tensor, seed: int, **cond: Any) -> NoReturn:
        """Always refused."""
        self._refuse()

    def template(self, ids: Tensor, sizes: Tensor, *, pad: int, **cond: Any) -> NoReturn:
        """Always refused."""
        self._refuse()

    def decode(self, state: State) -> NoReturn:
        """Always refused."""
        self._refuse()

    def join(self, raws: Sequence[Any], order: Sequence[int]) -> NoReturn:
        """Always refused."""
        self._refuse()

    def write(self, samples: Samples, out: Path) -> NoReturn:
        """Always refused."""
        self._refuse()

    def convert(self, samples: Samples, kind: str) -> NoReturn:
        """Always refused."""
        self._refuse()

    def draw(self, samples: Samples, path: Path, *, count: int = 25) -> NoReturn:
        """Always refused."""
        self._refuse()
