"""Graphs from PyTorch Geometric: devices, masks of several shapes, graphs to predict on only."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

from graphdiff.core.errors import DataError
from graphdiff.data.nodes import NodeData, Split

N = 6


class Far(torch.Tensor):
    """Stands for a tensor on another device: numpy must not see it before ``cpu``."""

    def numpy(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def mask(*nodes: int) -> torch.Tensor:
    made = torch.zeros(N, dtype=torch.bool)
    made[list(nodes)] = True
    return made


def graph(**change) -> Data:
    parts = {
        "x": torch.arange(2.0 * N).reshape(N, 2),
        "y": torch.tensor([0, 1, 0, 1, 0, 1]),
        "edge_index": torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]]),
        "train_mask": mask(0, 1),
        "val_mask": mask(2, 3),
        "test_mask": mask(4, 5),
    }
    return Data(**{k: v for k, v in {**parts, **change}.items() if v is not None})


def parts_of(split: Split) -> list[list[int]]:
    return [part.tolist() for part in (split.train, split.val, split.test)]


def test_tensors_of_another_device():
    near = graph()
    far = Data(**{key: value.as_subclass(Far) for key, value in near.to_dict().items()})
    found, wanted = NodeData.from_pyg(far), NodeData.from_pyg(near)
    assert found.fingerprint() == wanted.fingerprint()
    assert parts_of(found.splits[0]) == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_graph_on_a_gpu():
    assert (
        NodeData.from_pyg(graph().cuda()).fingerprint() == NodeData.from_pyg(graph()).fingerprint()
    )


def test_one_test_mask_beside_several_splits():
    """As WikiCS has it."""
    train = torch.stack([mask(0), mask(1), mask(2)], 1)
    val = torch.stack([mask(1), mask(2), mask(3)], 1)
    data = NodeData.from_pyg(graph(train_mask=train, val_mask=val))
    assert [parts_of(split) for split in data.splits] == [
        [[k], [k + 1], [4, 5]] for k in range(3)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train_mask": torch.zeros(N, 2), "val_mask": torch.zeros(N, 3)}, "several numbers of sp"),
        ({"val_mask": torch.tensor([2, 3])}, r"val_mask has shape \[2\], the graph 6 nodes"),
        ({"test_mask": torch.zeros(N, 1, 1)}, r"test_mask has shape \[6, 1, 1\]"),
        ({"y": torch.zeros(N, 4)}, r"labels: found .* of shape \[6, 4\]"),
        ({"y": torch.linspace(0, 1, N)}, "fractions"),
        ({"edge_index": None}, "no edge_index"),
        ({"y": torch.tensor([0, 1, 0, 1, 0, -1])}, "takes node 5, which has no label"),
    ],
)
def test_what_does_not_fit_is_refused(change, words):
    with pytest.raises(DataError, match=words):
        NodeData.from_pyg(graph(**change))


@pytest.mark.parametrize("y", [None, torch.full((N,), -1)])
def test_a_graph_without_labels_can_be_predicted_on(y):
    data = NodeData.from_pyg(graph(y=y))
    assert data.labels.tolist() == [-1] * N
    assert data.splits == ()
    assert "no node has a label" in data.notes["splits_left_out"]
    assert ("labels" in data.notes) == (y is None)


def test_a_graph_to_test_on_has_no_training_nodes():
    data = NodeData.from_pyg(graph(train_mask=mask(), val_mask=mask(), test_mask=mask(*range(N))))
    assert data.splits == ()
    assert data.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert data.notes["splits_left_out"] == "no training nodes: split 0"
    both = NodeData.from_pyg(graph(train_mask=torch.stack([mask(), mask(0)], 1)))
    assert [parts_of(split) for split in both.splits] == [[[0], [2, 3], [4, 5]]]
    part = NodeData.from_pyg(graph(val_mask=None))
    assert part.splits == ()
    assert "val_mask" in part.notes["splits_left_out"]


def test_classes_are_those_that_occur():
    data = NodeData.from_pyg(graph(y=torch.tensor([[2], [9], [2], [9], [2], [10**9]])))
    assert data.classes == ("2", "9", "1000000000")
    assert data.labels.tolist() == [0, 1, 0, 1, 0, 2]


def test_without_features_columns_are_nodes():
    assert NodeData.from_pyg(graph(x=None)).indicators
    assert not NodeData.from_pyg(graph()).indicators
