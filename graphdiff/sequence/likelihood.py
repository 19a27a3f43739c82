r"""Likelihoods of sequences under a diffusion model of tokens.

:func:`nelbo` is an unbiased estimate of an upper bound on :math:`-\log p(x)` in nats; its mean over
the noise is exact with a perfect denoiser. With absorbing noise the integral over the clock is
done in closed form: if :math:`n` of :math:`L` tokens are masked, the weights integrate to
:math:`1/n`, whatever the schedule, so that

.. math:: -\log p(x) \le \sum_{n=1}^{L} \frac1n\, E_{|S| = n} \sum_{i \in S}
    -\log p_\theta(x^i \mid x^{-S}),

the bound of a model that reveals tokens one by one in random order. The numbers ``n`` are
stratified over the draws. With other noise it is the integral of
:mod:`graphdiff.core.ctmc` at stratified times, with the divergence of the prior.

:func:`grid_log_likelihood` is the approximate log-likelihood that evaluations of DRAKES report
(Wang et al., 2025, arXiv 2410.13643; code): the same integral as a sum over a grid of times, one
draw of the noise at each, without the error of the grid being controlled:

.. math:: \sum_k \frac{m_{t_k} - m_{t_{k+1}}}{m_{t_k}} \sum_{i:\, x_{t_k}^i = m}
    \log p_\theta(x^i \mid x_{t_k}), \qquad m_t = 1 - \alpha_t .
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graphdiff.core.categorical import Absorbing, Marginal, Uniform
from graphdiff.core.ctmc import CTMC, class_probs, cross_entropy
from graphdiff.core.errors import ArgumentError
from graphdiff.core.process import Product
from graphdiff.core.rng import Key
from graphdiff.core.state import State
from graphdiff.core.value import repeat
from graphdiff.sequence.mdlm_data import as_state
from graphdiff.sequence.sequences import Sequences

if TYPE_CHECKING:
    from graphdiff.core.denoiser import DenoiserFunction

__all__ = ["grid_log_likelihood", "nelbo"]

NAME = "tokens"


def nelbo(
    denoiser: DenoiserFunction,
    sequences: Sequences | State,
    key: Key,
    *,
    process: Product | None = None,
    draws: int = 16,
    batch: int = 256,
) -> Tensor:
    """Upper bound on ``-log p`` of each sequence given its length, nats, float64 ``[n]``.

    Args:
        denoiser: The network; it is not trained here.
        sequences: Clean sequences, or a clean state (with conditions of the network, if any).
        key: Noise; its ids number the sequences.
        process: Process of the tokens; that of the denoiser by default.
        draws: Estimates for each sequence, whose mean is returned; stratified.
        batch: Sequences in one call.

    Raises:
        ArgumentError: ``draws`` or ``batch`` is below 1, or the process has no bound.
    """
    chain = _chain(denoiser, process)
    if draws < 1 or batch < 1:
        raise ArgumentError(f"draws and batch must be at least 1, found {draws} and {batch}")
    state = sequences if isinstance(sequences, State) else as_state(sequences, key.ids)
    found = []
    with torch.no_grad():
        for rows in torch.arange(state.batch_size, device=state.device).split(batch):
            part, own = _trimmed(state.select(rows)), key.select(rows)
            total = torch.zeros(len(rows), dtype=torch.float64, device=state.device)
            for k in range(draws):
                now = repeat(own, k)
                if isinstance(chain, Absorbing):
                    total += _masked_term(denoiser, chain, part, now, k, draws)
                else:
                    total += _timed_term(denoiser, chain, part, now, k, draws)
            found.append(total / draws + _prior_term(chain, part))
    return torch.cat(found)


def grid_log_likelihood(
    denoiser: DenoiserFunction,
    sequences: Sequences | State,
    key: Key,
    *,
    process: Product | None = None,
    steps: int = 128,
    end: float = 1e-5,
    batch: int = 256,
) -> Tensor:
    """Approximate ``log p`` of each sequence on a grid of times, nats, float64 ``[n]``.

    For comparison with published numbers; :func:`nelbo` is the better estimate.

    Args:
        denoiser: The network.
        sequences: Clean sequences, or a clean state.
        key: Noise; its ids number the sequences.
        process: Process of the tokens, absorbing; that of the denoiser by default.
        steps: Steps of the uniform grid from 1 to ``end``.
        end: Last time.
        batch: Sequences in one call.

    Raises:
        ArgumentError: The process is not absorbing.
    """
    chain = _chain(denoiser, process)
    if not isinstance(chain, Absorbing):
        raise ArgumentError(
            f"this log-likelihood is defined for absorbing noise, found {type(chain).__name__}; "
            "use nelbo"
        )
    state = sequences if isinstance(sequences, State) else as_state(sequences, key.ids)
    times = torch.linspace(1, end, steps + 1, dtype=torch.float64)
    masks = (1 - chain.schedule.alpha(times)).tolist()
    found = []
    with torch.no_grad():
        for rows in torch.arange(state.batch_size, device=state.device).split(batch):
            part, own = _trimmed(state.select(rows)), key.select(rows)
            total = torch.zeros(len(rows), dtype=torch.float64, device=state.device)
            for k in range(steps):
                t = torch.full((len(rows),), float(times[k]), device=state.device)
                clean, mask = part[NAME], part.mask(NAME)
                noisy = chain.corrupt(clean, t, mask, own.at(step=own.step + k))
                cost = _hidden_cost(denoiser, chain, part, noisy, t)
                total -= (masks[k] - masks[k + 1]) / masks[k] * cost
            found.append(total)
    return torch.cat(found)


def _chain(denoiser: DenoiserFunction, process: Product | None) -> CTMC:
    """The chain of the tokens."""
    own = process if process is not None else getattr(denoiser, "process", None)
    if not isinstance(own, Product) or set(own.names) != {NAME}:
        raise ArgumentError(
            "the likelihood of sequences needs a process of the component 'tokens' alone; give "
            "process, or a denoiser that has one"
        )
    chain = own[NAME]
    if not isinstance(chain, Absorbing | Uniform | Marginal):
        raise ArgumentError(f"tokens need a discrete process, found {type(chain).__name__}")
    return chain


def _trimmed(state: State) -> State:
    """Without padding that all samples share."""
    mask = state.mask(NAME)
    if mask is None:
        return state
    longest = int(mask.sum(1).max())
    values = {**state.values, NAME: state[NAME][:, :longest]}
    return State(values, {**state.masks, NAME: mask[:, :longest]}, state.ids)


def _ask(denoiser: DenoiserFunction, part: State, noisy: Tensor, t: Tensor) -> Tensor:
    """Logits ``[b, L, K]`` in float64."""
    cond: Any = {name: v for name, v in part.values.items() if name != NAME} or None
    return denoiser(part.replace(**{NAME: noisy}), t, cond)[NAME].double()


def _hidden_cost(
    denoiser: DenoiserFunction, chain: Absorbing, part: State, noisy: Tensor, t: Tensor
) -> Tensor:
    """Sum of ``-log p(x_i | noisy)`` over the masks, ``[b]``."""
    logits = _ask(denoiser, part, noisy, t)
    hidden = noisy == chain.classes - 1
    cost = cross_entropy(logits[..., :-1], part[NAME].clamp(max=chain.classes - 2))
    return torch.where(hidden, cost, 0.0).sum(1)


def _masked_term(
    denoiser: DenoiserFunction, chain: Absorbing, part: State, key: Key, k: int, draws: int
) -> Tensor:
    """One estimate of the sum over numbers of masks, ``[b]``."""
    clean, mask = part[NAME], part.mask(NAME)
    real = torch.ones_like(clean, dtype=torch.bool) if mask is None else mask
    length = real.sum(1)
    u = key.at(stream="masks").uniform(1, torch.float64).squeeze(1)
    n = 1 + torch.floor(length * (k + u) / draws).long().clamp(max=length - 1)
    rank = key.at(stream="place").uniform(clean.shape[1], torch.float64).masked_fill(~real, 2.0)
    last = rank.sort(1).values.gather(1, n.unsqueeze(1) - 1)
    noisy = torch.where(real & (rank <= last), chain.classes - 1, clean)
    t = _clock_of(chain, n / length)
    return _hidden_cost(denoiser, chain, part, noisy, t.float()) * length / n


def _clock_of(chain: CTMC, hit: Tensor) -> Tensor:
    """The clock at which a token is hit with probability ``hit`` ``[b]``, interpolated.

    Only a network that is told the clock sees it, and the bound holds for any.
    """
    grid = torch.linspace(0, 1, 4097, dtype=torch.float64, device=hit.device)
    level = 1 - chain.schedule.alpha(grid)
    place = torch.searchsorted(level, hit.double()).clamp(1, len(grid) - 1)
    low, high = level[place - 1], level[place]
    share = ((hit - low) / (high - low)).clamp(0, 1)
    return torch.lerp(grid[place - 1], grid[place], share)


def _timed_term(
    denoiser: DenoiserFunction, chain: CTMC, part: State, key: Key, k: int, draws: int
) -> Tensor:
    """One estimate of the time integral, ``[b]``."""
    exact: Any = replace(chain, weighting="elbo")  # type: ignore[type-var]
    u = (k + key.at(stream="time").uniform(1, torch.float64).squeeze(1)) / draws
    # t = u^2, dt = 2 u du: near t = 0 a token is hit with probability ~ t and then costs ~ 1/t,
    # so that the variance of uniform times would be infinite.
    t = u.square()
    mask = part.mask(NAME)
    noisy = exact.corrupt(part[NAME], t, mask, key.at(stream=NAME))
    logits = _ask(denoiser, part, noisy, t)
    out: Tensor = 2 * u * exact.loss(logits, part[NAME], noisy, t, mask)
    return out


def _prior_term(chain: CTMC, part: State) -> Tensor | float:
    """Divergence of the end of the noising chain from the law that sampling starts from, ``[b]``.

    With absorbing noise the bound of :func:`nelbo` starts from masks alone, so there is none.
    """
    if isinstance(chain, Absorbing):
        return 0.0
    end = chain.marginal(part[NAME], 1.0, part.mask(NAME))
    log_p = torch.log_softmax(end.logits, -1)
    pi = class_probs(chain.stationary, log_p.device)
    each = (log_p.exp() * (log_p - pi.log())).sum(-1)
    return chain.space.sum(each, part.mask(NAME))
