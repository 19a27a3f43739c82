r"""DeFoG: discrete flow matching on graphs (Qin et al., ICML 2025, arXiv 2410.04263).

With :math:`\tau = 1 - t` running from noise to data, classes follow the straight path
:math:`p(z_\tau \mid x) = \tau\,\delta_x + (1 - \tau)\, p_0`, the marginals of a core chain with
the linear schedule. Training is that of DiGress; what differs is sampling. The rates of the
generating chain are averages over the prediction :math:`\hat p(x \mid z)` of

.. math:: R_\tau(z, z' \mid x) = R^*_\tau + \eta\, R^{DB}_\tau + \omega\, R^{\omega}_\tau

(:mod:`graphdiff.core.rates`): :math:`R^*` moves the marginals with as few jumps as possible,
:math:`\eta` redraws classes in detailed balance and lets the chain correct itself, and
:math:`\omega` pulls towards the prediction. The grid of times can be bent towards the data
(``polydec``), where the classes of edges depend on one another most. Training, network and these
four knobs are independent, so that a trained model can be tuned at sampling time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from graphdiff.graph.discrete_config import DiscreteConfig
from graphdiff.graph.discrete_task import DiscreteGraphTask

__all__ = ["DefogTask"]


@dataclass(frozen=True)
class DefogTask(DiscreteGraphTask):
    """DeFoG on one data set; see the module docstring."""

    kind: ClassVar[str] = "defog"
    title: ClassVar[str] = "DeFoG: discrete flow matching on graphs"
    citation: ClassVar[str] = """@inproceedings{qin2025defog,
  title     = {{DeFoG}: Discrete Flow Matching for Graph Generation},
  author    = {Qin, Yiming and Madeira, Manuel and Thanou, Dorina and Frossard, Pascal},
  booktitle = {International Conference on Machine Learning},
  year      = {2025}
}"""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "config") -> DefogTask:
        """Validate a plain mapping; errors name the full path of the key."""
        from graphdiff.config import validate

        return cls(validate(DiscreteConfig, config, where=where))
