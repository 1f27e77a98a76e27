"""Suite, seed and the arms that are there -> blocks of cells in a random order; pure.

Each block holds every workload on every arm once, and the baseline once more as its A/A twin, in an order that is drawn
anew. So a drift of the machine falls on all arms alike, and the twin shows what is left of it.
The order depends on nothing but suite, seed and arms: a resumed run has the same one.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection
from dataclasses import dataclass

from lab.bench.model import Cell, Suite, TrialKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One round: every cell once. Warm-up blocks come first and are numbered with the others, from 0."""

    number: int
    kind: TrialKind
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """All blocks that a run may come to; ``digest`` is of their whole order ("sha256:…")."""

    blocks: tuple[Block, ...]
    digest: str


def plan(suite: Suite, *, seed: int, arms: Collection[str]) -> Schedule:
    """Return the whole order of a run, up to the last block that the suite allows.

    Raises:
        ValueError: the baseline is not among ``arms``: there would be nothing to compare with.
    """
    if suite.baseline not in arms:
        raise ValueError(f"the baseline '{suite.baseline}' is not among the arms")
    cells = cells_of(suite, arms)
    # a string seed is hashed by SHA-512 and so is the same in every process and Python version
    rng = random.Random(f"lab-schedule-1/{seed}")
    total = suite.warmup_blocks + suite.max_blocks
    blocks = tuple(_block(suite, number, cells, rng) for number in range(total))
    return Schedule(blocks=blocks, digest=_digest(blocks))


def cells_of(suite: Suite, arms: Collection[str]) -> tuple[Cell, ...]:
    """Return the cells of one block in the suite's order: each workload's arms, then the twin of its baseline."""
    cells = []
    for use in suite.workloads:
        for arm in suite.arms:
            if arm in arms and (not use.arms or arm in use.arms):
                cells.append(Cell(workload=use.key, arm=arm))
        cells.append(Cell(workload=use.key, arm=suite.baseline, twin=True))
    return tuple(cells)


def _block(suite: Suite, number: int, cells: tuple[Cell, ...], rng: random.Random) -> Block:
    order = list(cells)
    rng.shuffle(order)
    kind = TrialKind.WARMUP if number < suite.warmup_blocks else TrialKind.MEASURED
    return Block(number=number, kind=kind, cells=tuple(order))


def _digest(blocks: tuple[Block, ...]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(f"{block.number} {block.kind}\n".encode())
        digest.update("".join(f"{cell.key}\n" for cell in block.cells).encode())
    return f"sha256:{digest.hexdigest()}"
