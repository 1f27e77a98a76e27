"""When a run has measured enough: by precision and budget, never by significance.

A run that stops when a difference shows finds differences that are not there; one that stops when the intervals are
narrow enough does not look at where they lie.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class StopReason(StrEnum):
    """Why a run ended."""

    HALF_WIDTH = "half-width"
    BLOCKS = "blocks"
    BUDGET = "budget"
    GIVEN_UP = "given-up"
    INTERRUPTED = "interrupted"


def decide(
    *,
    blocks_done: int,
    min_blocks: int,
    max_blocks: int,
    elapsed_ns: int,
    next_block_ns: int,
    budget_ns: int,
    half_width_ratios: Iterable[float],
    target_half_width_ratio: float,
) -> StopReason | None:
    """Return why to stop after a measured block, or None to go on.

    ``next_block_ns`` is what another block is expected to take: a block that would not end within the budget is not
    begun. ``half_width_ratios`` are of every primary ratio of the run; all of them must meet the target, and where
    there are none nothing has been found out that could be precise enough. They are asked for only as far as needed.
    """
    if blocks_done >= max_blocks:
        return StopReason.BLOCKS
    # the budget is a promise to the user; a run that it cuts short of the minimum says "inconclusive"
    if elapsed_ns + next_block_ns > budget_ns:
        return StopReason.BUDGET
    if blocks_done >= min_blocks and _all_within(target_half_width_ratio, half_width_ratios):
        return StopReason.HALF_WIDTH
    return None


def _all_within(target: float, widths: Iterable[float]) -> bool:
    """Return whether there are widths and all meet the target; asks for no more than the first that does not."""
    found = False
    for width in widths:
        found = True
        if width > target:
            return False
    return found
