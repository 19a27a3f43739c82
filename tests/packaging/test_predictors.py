"""Folders of models that predict and generate nothing are refused by name of what reads them."""

from __future__ import annotations

from importlib import import_module

import pytest

from graphdiff.core.errors import ConfigError
from graphdiff.graph.diffgraph import nodes, recommend
from graphdiff.graph.robust import classifier as robust
from graphdiff.graph.semba import model as semba
from graphdiff.graph.sheaf.classifier import SheafClassifier
from graphdiff.task import PREDICTORS, task_class, task_kinds

SAVED = (SheafClassifier.kind, robust.KIND, semba.KIND, nodes.KIND, recommend.KIND)


@pytest.mark.parametrize("kind", SAVED)
def test_a_saved_predictor_is_refused_with_what_reads_it(kind):
    with pytest.raises(ConfigError, match="generates nothing") as found:
        task_class(kind)
    assert PREDICTORS[kind][1] in str(found.value)


def test_what_is_named_exists():
    readers = [reader for _, reader in PREDICTORS.values() if not reader.startswith("graphdiff ")]
    assert len(readers) == len(SAVED) - 1
    for reader in readers:
        module, name, method = reader.rsplit(".", 2)
        assert callable(getattr(getattr(import_module(module), name), method))


def test_no_kind_is_both():
    assert not set(PREDICTORS) & set(task_kinds())
