r"""Guided samples of a model: one setting for every method, without training.

========= ========================================================================================
best      the best of ``particles`` independent samples: what the others must beat
smc       particles weighted towards :math:`p(x)\,e^{r(x)/\alpha}` (sequential Monte Carlo)
twisted   the same, with particles that move by the tilted prediction of ``gilc``
svdd      the best of ``particles`` candidates in every step
gilc      a tilted prediction alone, no particles: the gradient of a differentiable reward at
          relaxed draws, or a policy gradient for a black box (:mod:`graphdiff.core.tilt`)
gradient  the same by the gradient at the predicted probabilities (differentiable rewards only)
========= ========================================================================================

At equal ``particles`` all but ``gilc`` make the same number of network calls; rewards are computed
for every particle in every step but in ``best``, where only finished samples are judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from graphdiff.core.errors import ArgumentError
from graphdiff.core.sampler import Sampler
from graphdiff.core.steer import SMC, SVDD, BestOf, Tilted
from graphdiff.core.tilt import GradientTilt, PolicyTilt
from graphdiff.core.value import PredictedReward

if TYPE_CHECKING:
    from graphdiff.core.process import Product
    from graphdiff.core.sampler import Tilt
    from graphdiff.core.value import RewardFunction
    from graphdiff.task import Chain

__all__ = ["METHODS", "Guide"]

METHODS = ("best", "smc", "twisted", "svdd", "gilc", "gradient")


@dataclass(frozen=True)
class Guide:
    """How samples are guided by a reward.

    Attributes:
        reward: Of finished samples; see :meth:`graphdiff.model.Model.reward`.
        method: See the module docstring.
        particles: Particles or candidates of each sample.
        alpha: Temperature of the target; ``svdd`` takes the best candidate with 0.
        draws: Clean samples that judge a noisy state, or that a tilt learns from; 0 judges by the
            likeliest clean sample.
        scale: Weight of a tilt; ``1 / alpha`` by default.
        potential: When the weights of particles come (:mod:`graphdiff.core.steer`).
        threshold: Share of effective particles below which a population is resampled.

    Raises:
        ArgumentError: An unknown method, or a number out of range.
    """

    reward: RewardFunction
    method: Literal["best", "smc", "twisted", "svdd", "gilc", "gradient"] = "smc"
    particles: int = 8
    alpha: float = 0.1
    draws: int = 0
    scale: float | None = None
    potential: Literal["difference", "max", "sum"] = "difference"
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ArgumentError(
                f"unknown guidance {self.method!r}, expected one of {', '.join(METHODS)}"
            )
        if self.particles < 1:
            raise ArgumentError(f"particles must be at least 1, found {self.particles}")
        if self.alpha < 0 or (self.alpha == 0 and self.method != "svdd"):
            raise ArgumentError(
                f"alpha must be positive, found {self.alpha}; only 'svdd' knows 0, the best "
                "candidate"
            )
        if self.method == "gradient" and not getattr(self.reward, "differentiable", False):
            raise ArgumentError(
                "guidance 'gradient' needs a differentiable reward (an oracle, or your own of "
                "torch operations on class weights); use 'gilc', which takes a black box"
            )
        if self.draws < 0 or (self.draws == 1 and self.method in ("twisted", "gilc")):
            raise ArgumentError(
                f"draws must be 0 or more (2 or more for a tilt), found {self.draws}"
            )

    @property
    def rows(self) -> int:
        """Chains that run for each sample: memory grows with them."""
        return 1 if self.method in ("gilc", "gradient") else self.particles

    def chain(self, sampler: Chain) -> Chain:
        """The guided chain.

        Raises:
            ArgumentError: The method needs the steps of the core's sampler, and the model has a
                chain of its own (graphs that grow level by level).
        """
        if self.method == "best":
            return BestOf(sampler, self.reward, self.particles)
        if not isinstance(sampler, Sampler):
            raise ArgumentError(
                f"this model draws its samples by {type(sampler).__name__}, whose steps cannot be "
                f"guided by {self.method!r}; use method 'best'"
            )
        process = sampler.process
        value = PredictedReward(process, self.reward, self.draws)
        if self.method == "svdd":
            return SVDD(sampler, self.reward, self.particles, self.alpha, value)
        tilt = self._tilt(process) if self.method in ("twisted", "gilc", "gradient") else None
        if self.method in ("gilc", "gradient"):
            assert tilt is not None
            return Tilted(sampler, tilt)
        return SMC(
            sampler, self.reward, self.particles, self.alpha, value, tilt, self.potential,
            self.threshold,
        )  # fmt: skip

    def _tilt(self, process: Product) -> Tilt:
        """The tilt of the method; by the gradient where the reward has one."""
        scale = 1 / self.alpha if self.scale is None else self.scale
        if not getattr(self.reward, "differentiable", False):
            return PolicyTilt(process, self.reward, scale, self.draws or 8)
        if self.method == "gradient":
            return GradientTilt(process, self.reward, scale)
        return GradientTilt(process, self.reward, scale, self.draws or 4, wrt="logits")

    def facts(self) -> dict[str, Any]:
        """All settings as plain values, the reward by its name."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**found, "reward": getattr(self.reward, "name", type(self.reward).__name__)}
