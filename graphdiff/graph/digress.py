r"""DiGress: discrete denoising diffusion of graphs (Vignac et al., ICLR 2023, 2209.14734).

Nodes and edges are redrawn from the marginal law of their classes (or uniformly): with a cosine
schedule :math:`\bar\alpha`,

.. math:: q(z_t \mid x) = \bar\alpha_t\, \delta_x + (1 - \bar\alpha_t)\, m ,

which in the core is a product of two :class:`Marginal` chains, one :class:`Dense`, one
:class:`Symmetric`. A network predicts the clean classes, and a step of the reverse chain averages
the bridge over the prediction (equation 7 of the paper), :math:`T = 500` times:

.. math:: p(z_s \mid z_t) = \sum_x q(z_s \mid z_t, x)\, \hat p(x \mid z_t).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from graphdiff.graph.discrete_config import DiscreteConfig
from graphdiff.graph.discrete_task import DiscreteGraphTask

__all__ = ["DigressTask"]


@dataclass(frozen=True)
class DigressTask(DiscreteGraphTask):
    """DiGress on one data set; see the module docstring."""

    kind: ClassVar[str] = "digress"
    title: ClassVar[str] = "DiGress: discrete denoising diffusion of graphs"
    citation: ClassVar[str] = """@inproceedings{vignac2023digress,
  title     = {{DiGress}: Discrete Denoising Diffusion for Graph Generation},
  author    = {Vignac, Clement and Krawczuk, Igor and Siraudin, Antoine and Wang, Bohan and
               Cevher, Volkan and Frossard, Pascal},
  booktitle = {International Conference on Learning Representations},
  year      = {2023}
}"""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "config") -> DigressTask:
        """Validate a plain mapping; the defaults are a cosine schedule and the ancestral chain."""
        from graphdiff.config import validate

        given = dict(config)
        given["noise"] = {"schedule": "cosine", **given.get("noise", {})}
        given["sample"] = {"solver": "ancestral", **given.get("sample", {})}
        return cls(validate(DiscreteConfig, given, where=where))
