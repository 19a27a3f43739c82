"""Exceptions of graphdiff.

Every message says what is wrong, what was found, what was expected and what to do about it, so
that a user never has to read a traceback to mend an argument, a file or a configuration.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "GraphdiffError",
    "RewardError",
    "TrainingError",
    "require",
]


class GraphdiffError(Exception):
    """Base class of all errors that graphdiff raises on purpose."""


class ArgumentError(GraphdiffError, ValueError):
    """An argument has a wrong value, shape, dtype or device."""


class ConfigError(GraphdiffError, ValueError):
    """A configuration names an unknown key or holds a value of the wrong type or range."""


class DataError(GraphdiffError, ValueError):
    """A data file or data set is missing, damaged or unusable."""


class CheckpointError(GraphdiffError, ValueError):
    """A model folder or weight file is missing, damaged, or of another task."""


class RewardError(GraphdiffError, RuntimeError):
    """A reward cannot be computed for too many samples."""


class TrainingError(GraphdiffError, RuntimeError):
    """A training stopped: loss not finite, output unwritable, or state lost."""


def require(where: str, holds: bool, found: object, expected: str) -> None:
    """Refuse a value of a configuration.

    Args:
        where: Path of the key.
        holds: Whether the value is good.
        found: The value.
        expected: What would be good.

    Raises:
        ConfigError: It is not good.
    """
    if not holds:
        raise ConfigError(f"{where}: found {found!r}, expected {expected}")
