"""Statistical tests whose thresholds come from their own null distribution.

Each function returns a p-value. A correct sampler gives a uniform one, so a test asserts
``accepted(p)`` for the code as it is and ``rejected(p)`` for a mutation of it (a coefficient 5 %
off); the second assertion is what shows that the first one has power. Seeds are fixed: a test
either always passes or always fails.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVEL = 1e-3


def accepted(p: float) -> bool:
    """Whether a p-value is compatible with the null."""
    return p > LEVEL


def rejected(p: float) -> bool:
    """Whether a p-value is incompatible with the null."""
    return p <= LEVEL


def ks_pvalue(x: Tensor, law: str = "norm") -> float:
    """Kolmogorov-Smirnov against a named scipy law with standard parameters."""
    from scipy.stats import kstest

    return float(kstest(x.double().flatten().numpy(), law).pvalue)


def chi2_pvalue(counts: Tensor, probs: Tensor, repeats: int = 2000) -> float:
    """Chi-squared of observed counts ``[k]`` against probabilities, null by simulation.

    Simulated, because the asymptotic law is wrong for cells that expect few counts. A count in a
    cell of probability zero is impossible and gives zero.
    """
    probs = probs.double() / probs.double().sum()
    if bool((counts[probs == 0] > 0).any()):
        return 0.0
    counts, probs = counts[probs > 0].double(), probs[probs > 0]
    total = int(counts.sum())
    expected = probs * total
    generator = torch.Generator().manual_seed(0)
    null = _multinomial(total, probs, repeats, generator)
    values = ((null - expected).square() / expected).sum(1)
    value = ((counts - expected).square() / expected).sum()
    return (1 + int((values >= value).sum())) / (repeats + 1)


def moments_pvalue(x: Tensor, mean: Tensor, covariance: Tensor, repeats: int = 2000) -> float:
    """Mean and covariance of ``x`` ``[n, d]`` against a normal law, null by simulation.

    The statistic is the likelihood ratio between the empirical and the expected normal law, whose
    null does not depend on the law: it is simulated for the standard normal.
    """
    n, d = x.shape
    root = torch.linalg.cholesky(covariance.double())
    white = torch.linalg.solve_triangular(root, (x.double() - mean).T, upper=False).T
    value = _likelihood_ratio(white.mean(0), white.T @ white / n, n)
    generator = torch.Generator().manual_seed(0)
    # Bartlett: the mean and the scatter of n normals, without drawing the n normals.
    centre = torch.randn(repeats, d, dtype=torch.float64, generator=generator) / n**0.5
    lower = torch.randn(repeats, d, d, dtype=torch.float64, generator=generator).tril(-1)
    freedom = torch.arange(n - 1, n - 1 - d, -1, dtype=torch.float64).expand(repeats, d)
    gamma = torch._standard_gamma(freedom / 2, generator=generator)
    lower = lower + torch.diag_embed((2 * gamma).sqrt())
    second = lower @ lower.mT / n + centre[:, :, None] * centre[:, None, :]
    null = _likelihood_ratio(centre, second, n)
    return (1 + int((null >= value).sum())) / (repeats + 1)


def _likelihood_ratio(mean: Tensor, second: Tensor, n: int) -> Tensor:
    scatter = second - mean[..., :, None] * mean[..., None, :]
    trace = scatter.diagonal(dim1=-2, dim2=-1).sum(-1)
    return n * (trace - torch.logdet(scatter) - mean.shape[-1] + mean.square().sum(-1))


def _multinomial(total: int, probs: Tensor, repeats: int, generator: torch.Generator) -> Tensor:
    """Multinomial counts ``[repeats, k]`` as a chain of binomials."""
    left = torch.full((repeats,), float(total), dtype=torch.float64)
    rest = 1.0
    columns = []
    for p in probs.tolist():
        share = min(max(p / rest, 0.0), 1.0) if rest > 0 else 1.0
        drawn = torch.binomial(left, torch.full_like(left, share), generator=generator)
        columns.append(drawn)
        left, rest = left - drawn, rest - p
    columns[-1] = columns[-1] + left
    return torch.stack(columns, 1)
