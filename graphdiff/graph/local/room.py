"""Whether mass fits, and the errors of flow diffusion."""

from __future__ import annotations

from graphdiff.core.errors import ArgumentError
from graphdiff.graph.local.graph import Int
from graphdiff.graph.local.touched import Touched

__all__ = ["RoomError", "check_room", "full", "open_with_sinks", "unfinished"]


class RoomError(ArgumentError):
    """There is more source mass than a graph, or what is connected to the seeds, can hold."""


def open_with_sinks(local: Touched, nodes: Int) -> None:
    """Reads rows of touched nodes, and sets the field ``T`` of those that this touches."""
    known = local.size
    local.open(nodes)
    local["T"][known:] = local.graph.base.degree[local.nodes[known:]]


def check_room(local: Touched, mass: float) -> None:
    """Refuses mass that all nodes connected to the seeds cannot hold.

    Once every touched node is opened there are no others, so their sinks are all there is.
    """
    room = float(local["T"].sum())
    if local.work.opened == local.size and mass >= room:
        raise full(mass, room, "part of the graph that is connected to the seeds")


def full(mass: float, room: float, where: str) -> RoomError:
    """The error of too much mass."""
    return RoomError(
        f"a source mass of {mass:.6g} does not fit: the {where} holds {room:.6g}, the sum of its "
        "degrees, and must keep room; give less mass, or take the whole as the cluster"
    )


def unfinished(rounds: int, solver: str, local: Touched) -> ArgumentError:
    """The error of too few rounds."""
    over = float((local["m"] - local["T"]).max())
    return ArgumentError(
        f"flow diffusion ({solver}) has not settled after {rounds} rounds: a node is {over:.3g} "
        "above its sink; allow more max_rounds or a larger tolerance"
    )
