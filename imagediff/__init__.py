"""imagediff: class-conditional image diffusion on the core, trainer and seeds of graphdiff.

It holds a network, a data loader and a task; models load with :func:`graphdiff.load`.
"""

from __future__ import annotations
