"""The graph that most tests of this folder share."""

from __future__ import annotations

import pytest
from robust_support import Planted, planted


@pytest.fixture(scope="session")
def graph() -> Planted:
    return planted()
