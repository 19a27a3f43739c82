r"""Classes of the nodes of a graph, learned by sheaf diffusion: fit, predict, save, load.

:class:`SheafClassifier` holds everything that a prediction needs: the network, the names of the
classes, and how features are scaled (:mod:`graphdiff.graph.sheaf.scaling`). The network has no
weight of a node (unless ``network.adjacency``), so it predicts on another graph with the same
features as well.

A saved model is a folder with ``weights.safetensors`` and ``card.json``; nothing in it is run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from graphdiff.core.checks import moving_to
from graphdiff.core.errors import ArgumentError, CheckpointError, DataError
from graphdiff.data.nodes import UNKNOWN, NodeData, Split, random_splits
from graphdiff.graph.evaluate.training import FitConfig, Fitted, check_splits, fit_nodes
from graphdiff.graph.node_features import Features, compressed
from graphdiff.graph.sheaf.network import SheafConfig, SheafNetwork
from graphdiff.graph.sheaf.presets import preset
from graphdiff.graph.sheaf.scaling import Columns, Scaling, choose_scaling, scale_of, scaled
from graphdiff.graph.sheaf.topology import Topology

__all__ = ["Prediction", "SheafClassifier", "as_nodes"]

PREFIX = "scaling."
CITATION = """@inproceedings{bodnar2022sheaf,
  title={Neural Sheaf Diffusion: A Topological Perspective on Heterophily and Oversmoothing in
         {GNNs}},
  author={Bodnar, Cristian and Di Giovanni, Francesco and Chamberlain, Benjamin Paul and Li{\\`o},
          Pietro and Bronstein, Michael M.},
  booktitle={Advances in Neural Information Processing Systems},
  year={2022}
}"""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Classes of the nodes of a graph.

    Attributes:
        classes: Number of the most probable class of each node, int64 ``[n]``.
        probabilities: ``[n, classes]``; rows add up to 1.
        names: Names of the classes.
        ids: Names of the nodes, as the files call them.
    """

    classes: Tensor
    probabilities: Tensor
    names: tuple[str, ...]
    ids: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """Name of the predicted class of each node."""
        return [self.names[c] for c in self.classes.tolist()]


@dataclass(frozen=True)
class Described:
    """What a card says of the network: everything but the weights.

    Attributes:
        network: Shape.
        features: How many.
        classes: Names of the classes.
        scaling: Of features.
        nodes: Of the training graph.
        edges_sha256: Hash of its edges.
        columns: What its features are.
    """

    network: SheafConfig
    features: int
    classes: tuple[str, ...]
    scaling: Scaling
    nodes: int
    edges_sha256: str
    columns: Columns = field(default_factory=Columns)


class SheafClassifier:
    """A trained network with names of classes and scaling of features.

    Made by :meth:`fit` or :meth:`load`.

    Attributes:
        about: Shape, classes, scaling, training graph.
        network: The network, in evaluation mode.
        fitted: Scores, logits and the validation curve of the training; ``None`` once loaded.
        facts: Seed, training settings, fingerprint of data and split, metrics.
    """

    kind: ClassVar[str] = "sheaf"
    citation: ClassVar[str] = CITATION

    def __init__(
        self,
        about: Described,
        network: SheafNetwork,
        scale: Mapping[str, Tensor],
        fitted: Fitted | None,
        facts: Mapping[str, Any],
    ) -> None:
        self.about, self.network, self.fitted = about, network.eval().requires_grad_(False), fitted
        self.facts = dict(facts)
        self._scale = dict(scale)

    def __repr__(self) -> str:
        size = sum(p.numel() for p in self.network.parameters())
        return (
            f"SheafClassifier({self.about.network.maps}, {self.about.features} features, "
            f"{len(self.about.classes)} classes, {size:,} parameters)"
        )

    @classmethod
    def fit(
        cls,
        data: NodeData | Any,
        split: Split | None = None,
        network: SheafConfig | None = None,
        training: FitConfig | None = None,
        *,
        scaling: Scaling | Literal["auto"] = "auto",
        seed: int = 0,
        device: str | torch.device = "cpu",
        progress: Callable[[int, int], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> SheafClassifier:
        """Train on the nodes of one graph.

        Args:
            data: The graph, or a PyG ``Data`` with ``x``, ``y`` and ``edge_index``.
            split: Nodes to train on, to select on, to test on; by default the first split of the
                data, else a random one (48/32/20, stratified, by ``seed``).
            network: Shape.
            training: Epochs, learning rate, selection.
            scaling: Of features: ``rows``, ``columns``, ``none`` or ``auto``.
            seed: Of initialisation, dropout and a random split.
            device: Where to train.
            progress: Called after each epoch with what is done and all.
            stop: Asked after each epoch whether to stop there, with the best weights so far.

        Raises:
            DataError: Fewer than two classes have labels, there are no validation nodes, or the
                split does not fit the graph.
            TrainingError: The loss is not finite.
        """
        graph = as_nodes(data)
        network, training = network or preset("").network, training or preset("").fit
        if len(torch.unique(graph.labels[graph.labels != UNKNOWN])) < 2:
            raise DataError(
                f"{graph.name}: labels of fewer than two classes are known, so there is nothing to "
                "learn; give a label to some nodes of each class"
            )
        split = split or _default_split(graph, seed)
        if not len(split.val):
            raise DataError("the split has no validation nodes, on which the weights are chosen")
        check_splits(graph, [split], training.select)
        columns = Columns.of(graph)
        features = columns.arrange(graph, graph.features.shape[1], own=True)
        chosen = choose_scaling(features) if scaling == "auto" else scaling
        scale = scale_of(features, chosen)
        about = Described(
            network, graph.features.shape[1], graph.classes, chosen, graph.n, _hash(graph.edges),
            columns,
        )  # fmt: skip
        x = compressed(scaled(features, chosen, scale)).to(device)
        topology, labels = Topology.of(graph.edges, graph.n).to(device), graph.labels.to(device)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = SheafNetwork(network, about.features, len(about.classes), graph.n).to(device)
            fitted = fit_nodes(
                net, lambda: net(x, topology), labels, split, training,
                groups={"maps": net.map_parameters()}, progress=progress, stop=stop,
            )  # fmt: skip
        fitted = replace(fitted, logits=fitted.logits.cpu())
        facts = {
            "seed": seed,
            "step": fitted.epoch,
            "train": {**asdict(training), "epochs_run": fitted.epochs},
            "data": {**graph.fingerprint(), "split": _split_facts(split), "notes": _plain(graph)},
            "metrics": _metrics(fitted, split),
        }
        return cls(about, net, scale, fitted, facts)

    def predict(self, data: NodeData | Any) -> Prediction:
        """Classes of all nodes of a graph, the training graph or another.

        Args:
            data: The graph, or a PyG ``Data``; labels are not looked at and may be absent.

        Raises:
            ArgumentError: It has other features, or is another graph and the network
                embeds the nodes of its own (``network.adjacency``).
        """
        graph = as_nodes(data)
        probabilities = self._run(graph, lambda x, t: self.network(x, t)).softmax(1)
        ids = graph.ids or tuple(str(k) for k in range(graph.n))
        return Prediction(probabilities.argmax(1), probabilities, self.about.classes, ids)

    def embed(self, data: NodeData | Any) -> Tensor:
        """What the last layer makes of each node ``[n, stalk * hidden]``, as for a picture."""
        return self._run(as_nodes(data), lambda x, t: self.network.embed(x, t).flatten(1))

    def knows(self, data: NodeData | Any) -> bool:
        """Whether this is the graph it was trained on, by its edges."""
        return _hash(as_nodes(data).edges) == self.about.edges_sha256

    def trained_on(self, data: NodeData | Any) -> bool:
        """Whether these are the data it was trained on: edges, features and labels."""
        told = self.facts.get("data") or {}
        return bool(as_nodes(data).fingerprint()["sha256"] == told.get("sha256"))

    def to(self, device: str | torch.device) -> SheafClassifier:
        """Move the network; returns the classifier itself.

        Raises:
            ArgumentError: This machine has no such device.
        """
        with moving_to(device):
            self.network.to(device)
        return self

    def save(self, folder: str | Path, *, overwrite: bool = False, **fields: Any) -> Path:
        """Write a model folder: weights and a card.

        Args:
            folder: To make.
            overwrite: Replace a folder of that name.
            **fields: Further entries of the card: ``metrics`` (added to those of the fit),
                ``notes``, ``licence``.

        Raises:
            CheckpointError: The folder exists, or it cannot be written.
        """
        from graphdiff.train.checkpoint import save_model
        from graphdiff.train.store import new_card

        facts = {k: v for k, v in self.facts.items() if v is not None}
        metrics = {**facts.pop("metrics", {}), **fields.pop("metrics", {})}
        weights = {**self.network.state_dict(), **{PREFIX + k: v for k, v in self._scale.items()}}
        save_model(
            folder, weights, new_card(self, metrics=metrics, **facts, **fields), overwrite=overwrite
        )
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> SheafClassifier:
        """Read a model folder; nothing in it is run.

        Raises:
            CheckpointError: It is missing, damaged, or a model of another kind.
        """
        from graphdiff.config import validate
        from graphdiff.train.checkpoint import load_weights, read_card

        card = read_card(folder, kind=cls.kind)
        told = {k: v for k, v in card.task.items() if k != "kind"}
        about = validate(Described, told, where=f"{folder}: card.task")
        weights = load_weights(folder)
        scale = {
            k.removeprefix(PREFIX): weights.pop(k) for k in list(weights) if k.startswith(PREFIX)
        }
        net = SheafNetwork(about.network, about.features, len(about.classes), about.nodes)
        try:
            net.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(
                f"{folder}: the weights do not fit the network of the card: "
                f"{' '.join(str(error).split())}; the folder mixes files of two models"
            ) from error
        if set(scale) != set(scale_of(torch.zeros(1, 1), about.scaling)):
            raise CheckpointError(f"{folder}: the weights hold no scaling {about.scaling!r}")
        facts = {"seed": card.seed, "step": card.step, "train": card.train, "data": card.data}
        return cls(about, net, scale, None, {**facts, "metrics": card.metrics})

    def to_config(self) -> dict[str, Any]:
        """The entry ``task`` of the card."""
        return {"kind": self.kind, **asdict(self.about), "classes": list(self.about.classes)}

    def _run(self, graph: NodeData, call: Callable[[Features, Topology], Tensor]) -> Tensor:
        about, own = self.about, self.knows(graph)
        features = about.columns.arrange(graph, about.features, own)
        if about.network.adjacency and not own:
            raise ArgumentError(
                f"{graph.name} is another graph than the model was trained on, and the network "
                f"embeds the rows of that adjacency matrix (network.adjacency = "
                f"{about.network.adjacency}); train with network.adjacency=0 to predict on others"
            )
        device = next(self.network.parameters()).device
        x = compressed(scaled(features, about.scaling, self._scale)).to(device)
        with torch.no_grad():
            return call(x, Topology.of(graph.edges, graph.n).to(device)).cpu()


def as_nodes(data: NodeData | Any) -> NodeData:
    """A graph as :class:`NodeData`; of a PyG ``Data`` labels may be absent.

    Raises:
        ArgumentError: It is neither.
    """
    if isinstance(data, NodeData):
        return data
    if getattr(data, "edge_index", None) is None:
        raise ArgumentError(
            f"expected a NodeData or a PyG Data with edge_index, found {type(data).__name__}; read "
            "files by graphdiff.data.node_sets.load_nodes"
        )
    return NodeData.from_pyg(data)


def _default_split(graph: NodeData, seed: int) -> Split:
    return graph.splits[0] if graph.splits else random_splits(graph.labels, 1, seed=seed)[0]


def _split_facts(split: Split) -> dict[str, Any]:
    parts = {"train": split.train, "val": split.val, "test": split.test}
    return {**{k: len(v) for k, v in parts.items()}, "sha256": _hash(*parts.values())}


def _plain(graph: NodeData) -> dict[str, Any]:
    return {k: v if isinstance(v, int) else str(v) for k, v in graph.notes.items()}


def _metrics(fitted: Fitted, split: Split) -> dict[str, Any]:
    """Scores of validation and test nodes; of accuracies the exact 95 % interval."""
    from scipy.stats import binomtest

    found: dict[str, Any] = {}
    for name, part in (("val", split.val), ("test", split.test)):
        for score, value in fitted.scores.get(name, {}).items():
            entry: dict[str, Any] = {"value": value, "n": len(part)}
            if score == "accuracy":
                bounds = binomtest(round(value * len(part)), len(part)).proportion_ci()
                entry |= {"low": float(bounds.low), "high": float(bounds.high)}
            found[f"{name}_{score}"] = entry
    return found


def _hash(*tensors: Tensor) -> str:
    made = hashlib.sha256()
    for tensor in tensors:
        made.update(str(tuple(tensor.shape)).encode() + tensor.cpu().contiguous().numpy().tobytes())
    return made.hexdigest()
