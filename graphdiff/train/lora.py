r"""Low-rank adapters: a network that is tuned through small factors beside its frozen weights.

Every matrix :math:`W` of a network, ``[n, m]``, is replaced by (Hu et al., 2022, arXiv 2106.09685)

.. math:: W + B A, \qquad B \in \mathbb R^{n \times r},\; A \in \mathbb R^{r \times m},

of which only :math:`A` and :math:`B` are trained. :math:`B` is zero at the start, so that the
network is the same function to the bit. The entries of :math:`A` start with variance :math:`1/r`:
a first step of Adam, which moves each entry of :math:`B` by the learning rate, then moves an entry
of the sum by the learning rate in the root mean square, whatever the rank, as training :math:`W`
itself would. A factor in front of :math:`B A` could only change the learning rate again.

A matrix is a parameter of two axes, the last two axes of one with more (a stack of matrices), or
the weight of a convolution with its inputs and places as one axis. A side shorter than the rank
caps it. Vectors (biases, normalisations) stay frozen. Adapters are parametrisations of torch
(:mod:`torch.nn.utils.parametrize`), so a network needs to know nothing about them; :func:`split`
makes the state dict of the plain network from that of the adapted one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from graphdiff.core.errors import ConfigError
from graphdiff.core.rng import Key

__all__ = ["LowRank", "adapt", "restore", "split"]

MARK = "parametrizations."


class LowRank(nn.Module):
    """The change of one matrix.

    Args:
        weight: The parameter that is changed; its type and device are those of the factors.
        sides: Rows ``n`` and columns ``m`` of each matrix in it.
        rank: Rank ``r``; at most the shorter side is used.
        key: Noise of the first factor, of one sample.
    """

    def __init__(self, weight: Tensor, sides: tuple[int, int], rank: int, key: Key) -> None:
        super().__init__()
        (n, m), r = sides, min(rank, *sides)
        stack = weight.shape[:-2] if weight.numel() > n * m else ()
        down = key.normal(weight.numel() // n * r).reshape(*stack, r, m) * r**-0.5
        self.down = nn.Parameter(down.to(weight))
        self.up = nn.Parameter(weight.new_zeros(*stack, n, r))

    def forward(self, weight: Tensor) -> Tensor:
        """``W + B A`` in the shape of ``W``."""
        return _sum(weight, self.up, self.down)


def _sum(weight: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return weight + (up @ down).view(weight.shape)


def adapt(module: nn.Module, rank: int, *, seed: int = 0) -> None:
    """Freeze a network and give every matrix that was trained a low-rank change.

    Args:
        module: The network; it is changed in place. Shared parameters share their change.
        rank: Largest rank of a change.
        seed: Of the first factors.

    Raises:
        ConfigError: There is no matrix, or the factors have as many numbers as the matrices.
    """
    places = _matrices(module)
    if not places:
        count = sum(p.numel() for p in module.parameters())
        raise ConfigError(
            f"the network has no matrix that a low-rank change could be made of ({count:,} "
            "parameters, vectors or frozen); set lora to None"
        )
    full = sum(weight.numel() for weight, _, _ in places)
    if (need := _numbers(places, rank)) >= full:
        best = max((r for r in range(1, rank) if _numbers(places, r) < full), default=None)
        short = sum(min(sides) < rank for _, sides, _ in places)
        cure = f"choose at most {best}, or None" if best else "set it to None"
        raise ConfigError(
            f"changes of rank {rank} have {need:,} numbers, not fewer than the {full:,} of the "
            f"network's matrices ({short} of {len(places)} have a side shorter than the rank): "
            f"{cure} to train the matrices themselves"
        )
    module.requires_grad_(False)
    for k, (weight, sides, owners) in enumerate(places):
        key = Key(seed, torch.tensor([k])).at(stream="lora")
        change = LowRank(weight, sides, rank, key)
        for owner, name in owners:
            parametrize.register_parametrization(owner, name, change)


def split(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State dict of the plain network with its changes added, and the factors of the changes.

    Args:
        state: State dict of an adapted network, or of any other (which has no factors).
    """
    plain: dict[str, Tensor] = {}
    factors: dict[str, Tensor] = {}
    for name, value in state.items():
        owner, mark, rest = name.rpartition(MARK)
        tensor, _, part = rest.partition(".")
        up, down = (state.get(f"{owner}{MARK}{tensor}.0.{side}") for side in ("up", "down"))
        if not mark or up is None or down is None:
            plain[name] = value
        elif part == "original":
            plain[owner + tensor] = _sum(value, up, down).detach()
        else:
            factors[name] = value
    return plain, factors


def restore(module: nn.Module, plain: Mapping[str, Tensor], factors: Mapping[str, Tensor]) -> None:
    """Load what :func:`split` returned into a network that is adapted if there are factors.

    The frozen matrices stay as they are: a sum does not say what it is the sum of.
    """
    if not factors:
        module.load_state_dict(plain)
        return
    own = module.state_dict()
    module.load_state_dict({**own, **{k: v for k, v in plain.items() if k in own}, **factors})


_Place = tuple[nn.Parameter, tuple[int, int], list[tuple[nn.Module, str]]]


def _matrices(module: nn.Module) -> list[_Place]:
    """Trained matrices: the parameter, the sides of each matrix in it, and who holds it."""
    found: dict[int, _Place] = {}
    for owner, name, weight in _held(module):
        if weight.ndim < 2 or not weight.requires_grad or not weight.numel():
            continue
        # What torch's convolutions of any dimension are; their weight is one matrix.
        whole = isinstance(owner, torch.nn.modules.conv._ConvNd)
        rows = weight.shape[0 if whole else -2]
        columns = weight[0].numel() if whole else weight.shape[-1]
        found.setdefault(id(weight), (weight, (rows, columns), []))[2].append((owner, name))
    return list(found.values())


def _held(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    for owner in module.modules():
        for name, weight in owner.named_parameters(recurse=False, remove_duplicate=False):
            yield owner, name, weight


def _numbers(places: list[_Place], rank: int) -> int:
    """Numbers in the factors of changes of this rank."""
    total = 0
    for weight, (n, m), _ in places:
        total += weight.numel() // (n * m) * min(rank, n, m) * (n + m)
    return total
