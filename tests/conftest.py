"""What every test of the repository shares: which tests run, and where data is looked for."""

from __future__ import annotations

import os
import signal

# Before torch is imported anywhere: many small processes share few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DGLBACKEND", "pytorch")

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    expression = config.getoption("-m") or ""
    slow = config.getoption("--slow") or "slow" in expression
    skip_slow = pytest.mark.skip(reason="slow: run with --slow, -m slow or `make test-slow`")
    skip_gpu = pytest.mark.skip(reason="gpu: no CUDA device on this machine")
    for item in items:
        if "slow" in item.keywords and not slow:
            item.add_marker(skip_slow)
        if "gpu" in item.keywords and not _has_cuda():
            item.add_marker(skip_gpu)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_configure() -> None:
    """Tests of Ctrl-C also work where a shell has started pytest in the background.

    Such a shell makes its children ignore the signal, and these hand that on to theirs.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
