"""What a modality must say about itself: the :class:`Task`.

A task joins a process, a network, a data set and a way to show samples. The trainer, the command
line and :class:`graphdiff.model.Model` know tasks only through this file, so an image task and a
molecule task are trained, checkpointed, resumed, sharded and sampled by the same code.

Tasks register under ``kind`` through the entry-point group ``graphdiff.tasks`` (a package that is
installed beside graphdiff adds its own kinds without graphdiff knowing it).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from graphdiff.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

    from graphdiff.core.denoiser import Denoiser
    from graphdiff.core.rng import Key
    from graphdiff.core.state import State
    from graphdiff.core.step import Step
    from graphdiff.finetune.reward import Reward

__all__ = ["PREDICTORS", "Chain", "Data", "Samples", "Task", "task_class", "task_kinds"]

GROUP = "graphdiff.tasks"

_GRAPH = "graphdiff.graph"
PREDICTORS = {
    "sheaf": ("classes of the nodes of a graph", "graphdiff predict"),
    "stable": ("classes of the nodes of a graph", f"{_GRAPH}.robust.stable.StableClassifier.load"),
    "semba": ("signs of links", f"{_GRAPH}.semba.model.SignedTemporalModel.load"),
    "diffgraph-nodes": ("classes of nodes", f"{_GRAPH}.diffgraph.nodes.HeteroClassifier.load"),
    "diffgraph-recommender": ("what users want", f"{_GRAPH}.diffgraph.recommend.Recommender.load"),
}
"""Kinds of model folders that only predict: what, and what reads them."""


class Data(ABC):
    """A finite training set, addressed by global example index."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples."""

    @abstractmethod
    def batch(self, index: Tensor) -> State:
        """The clean examples ``index`` (int64 ``[b]``) as a state whose ids are ``index``."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Name, split, number of examples and sha256 of what is trained on."""


@dataclass(frozen=True)
class Samples:
    """Raw samples of a task, before any correction.

    Attributes:
        ids: Global sample numbers, in the order of ``items``.
        items: What a user wants to hold: RDKit molecules, networkx graphs, arrays.
        raw: Uncorrected samples in the compact form of the task (for graphs
            :class:`graphdiff.data.Graphs`, for images an array ``[n, c, h, w]``).
        info: Provenance: model, seed, steps, network calls and the like.
    """

    ids: Sequence[int]
    items: Sequence[Any]
    raw: Any
    info: Mapping[str, Any] = field(default_factory=dict)


class Chain(Protocol):
    """What turns a template into finished samples; :class:`graphdiff.core.sampler.Sampler` is one.

    A task whose samples are not one chain of the core (graphs that grow level by level) gives its
    own. The noise of a sample must depend on the seed and its id alone.
    """

    @property
    def network_calls(self) -> int:
        """Network evaluations of a sample; a forecast where they depend on its size."""

    def __call__(
        self,
        denoiser: Denoiser,
        template: State,
        *,
        seed: int,
        on_step: Callable[[Step], None] | None = None,
    ) -> State:
        """Draw a batch; ``on_step`` is called after every step with the calls made so far."""


class Task(ABC):
    """One way to train and sample a model; ``config`` says everything that is needed to build it.

    Subclasses are frozen dataclasses whose single field is a validated ``config`` (itself a frozen
    dataclass of plain numbers, strings and dataclasses); they are rebuilt from the model card.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    citation: ClassVar[str] = ""
    generates: ClassVar[bool] = True
    """Whether its models are sampled; those that only predict refuse."""
    config: Any

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "config") -> Task:
        """Validate ``config`` (a plain nested mapping).

        Raises:
            ConfigError: With the full path of the key that is unknown or wrong.
        """

    @abstractmethod
    def to_config(self) -> dict[str, Any]:
        """The plain nested mapping that :meth:`from_config` accepts; it is stored in the card."""

    @abstractmethod
    def build(self) -> Denoiser:
        """A freshly initialised denoiser (deterministic: initialised from ``config.seed``)."""

    @abstractmethod
    def data(self, root: str | Path | None = None) -> Data:
        """The training set; loads it, so it may raise :class:`DataError`."""

    @abstractmethod
    def losses(self, denoiser: Denoiser, clean: State, key: Key) -> dict[str, Tensor]:
        """Per-example loss ``[b]`` of each component; the trainer minimises the sum of means."""

    @abstractmethod
    def groups(self, denoiser: Denoiser) -> dict[str, list[Parameter]]:
        """Named parameter groups; gradients are clipped by group."""

    def prepared(self, data: Data) -> Task:
        """The task as it is trained on ``data`` and as it goes into the card of the model.

        Called before :meth:`build`. Tasks that need facts of the data (node-count histograms,
        class frequencies) return a copy of themselves that carries them; the default needs none.
        """
        return self

    def training_state(self) -> dict[str, Any]:
        """What the losses remember from step to step beside the network, for a checkpoint.

        Tensors and plain values only; most tasks remember nothing.
        """
        return {}

    def load_training_state(self, state: Mapping[str, Any]) -> None:  # noqa: B027  (most have none)
        """Go on from what :meth:`training_state` returned; from the start if it is empty."""

    def memory(self, batch: int, *, training: bool) -> int | None:
        """Bytes that a batch of the largest samples needs at most, or None if nobody knows.

        Asked before a training or a sampling begins, so that it can be refused instead of running
        out of memory; called on what :meth:`prepared` returned.
        """
        return None

    @abstractmethod
    def sampler(self, **overrides: Any) -> Chain:
        """The sampler of the config, with ``overrides`` (``steps``, ``solver``, …) applied.

        Raises:
            ConfigError: An override is unknown to this task.
        """

    @abstractmethod
    def sizes(self, ids: Tensor, seed: int, **cond: Any) -> Tensor:
        """Size (number of nodes, tokens; 1 for fixed shapes) of each sample, int64 ``[b]``.

        ``cond`` is what :meth:`template` is given, one value for all samples or one for each.
        """

    def settled(self, ids: Tensor, sizes: Tensor, seed: int, **cond: Any) -> dict[str, Any]:
        """The conditions of :meth:`template` with what is left to chance drawn from (seed, id)."""
        return cond

    @abstractmethod
    def template(self, ids: Tensor, sizes: Tensor, *, pad: int, **cond: Any) -> State:
        """A state of the right shapes, masks and ids; its values are only shapes and dtypes."""

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of a prompt that mean nothing to the task; none for a task without prompts."""
        return []

    def scores(self) -> Mapping[str, Callable[[Any], float]]:
        """Scores of an item by name, for ``--reward``; none by default."""
        return {}

    def reward_makers(self) -> Mapping[str, Callable[[str], Reward]]:
        """Rewards that are no score of an item, by the prefix of their name; none by default."""
        return {}

    def item_key(self, item: Any) -> Hashable | None:
        """What equal items share, so that a score is computed once; None if nobody knows."""
        return None

    @abstractmethod
    def decode(self, state: State) -> tuple[list[Any], Any]:
        """Finished states to ``(items, raw)`` as :class:`Samples` describes them."""

    @abstractmethod
    def join(self, raws: Sequence[Any], order: Sequence[int]) -> Any:
        """Concatenate the ``raw`` parts of several batches and reorder them."""

    @abstractmethod
    def write(self, samples: Samples, out: Path) -> list[Path]:
        """Write the samples in the files users expect (SMILES, GraphML, PNG …); return them."""

    def formats(self) -> Mapping[str, str]:
        """Files of :meth:`write` that hold every sample, by suffix, for ``--out FILE``."""
        return {}

    @abstractmethod
    def convert(self, samples: Samples, kind: str) -> Sequence[Any]:
        """Samples as another type (``"pyg"``, ``"networkx"``, ``"dgl"``, ``"state"`` …).

        Raises:
            ArgumentError: ``kind`` is unknown to this task.
        """

    @abstractmethod
    def draw(self, samples: Samples, path: Path, *, count: int = 25) -> Path:
        """Draw the first ``count`` samples as one picture (PNG)."""


def task_kinds() -> list[str]:
    """Names of the installed kinds of task."""
    return sorted(point.name for point in entry_points(group=GROUP))


def task_class(kind: str) -> type[Task]:
    """The task class registered under ``kind``.

    Raises:
        ConfigError: No installed package registers that kind.
    """
    for point in entry_points(group=GROUP):
        if point.name == kind:
            loaded: type[Task] = point.load()
            return loaded
    if kind in PREDICTORS:
        what, command = PREDICTORS[kind]
        raise ConfigError(
            f"a model of kind {kind!r} predicts {what} and generates nothing, so it cannot be "
            f"sampled, trained or evaluated as a task; use `{command}`"
        )
    raise ConfigError(
        f"unknown task kind {kind!r}: installed kinds are {', '.join(task_kinds()) or 'none'}; "
        "correct `kind` in the config, or install the package that provides it"
    )
