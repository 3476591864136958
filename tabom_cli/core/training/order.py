"""Which rows make up which optimizer step, on any number of processes.

Everything here is a function of (seed, epoch, sample id), so that a resumed run and a run on another
number of GPUs see the same rows, cuts and masks. Knows no tensor but the generators it seeds.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tabom_cli.core.training.config import TrainConfig


@dataclass(frozen=True)
class StepPlan:
    """The shape of a training run.

    Attributes:
        num_rows: Training rows per epoch.
        steps_per_epoch: Optimizer steps per epoch; the last one of an epoch may be smaller.
        total_steps: Optimizer steps in all.
        micro_batch_size: Rows per forward pass; smaller than asked for when there are more processes
            than the global batch has micro-batches.
        accumulation: Forward passes per process and optimizer step.
        world_size: Processes.
    """

    num_rows: int
    steps_per_epoch: int
    total_steps: int
    micro_batch_size: int
    accumulation: int
    world_size: int


def plan_steps(num_rows: int, config: TrainConfig, world_size: int) -> StepPlan:
    """The steps of a run; the optimisation does not depend on the number of processes."""
    per_epoch = math.ceil(num_rows / config.global_batch_size)
    total = per_epoch * config.epochs
    if config.max_steps is not None:
        total = min(total, config.max_steps)
    micro = min(config.micro_batch_size, math.ceil(config.global_batch_size / world_size))
    chunks = math.ceil(config.global_batch_size / micro)
    return StepPlan(num_rows, per_epoch, total, micro, math.ceil(chunks / world_size), world_size)


def epoch_order(num_rows: int, *, seed: int, epoch: int) -> list[int]:
    """Row numbers in the order in which this epoch visits them."""
    order = list(range(num_rows))
    random.Random(_hash(seed, epoch, "order")).shuffle(order)
    return order


def micro_batches(rows: Sequence[int], plan: StepPlan, rank: int) -> list[list[int]]:
    """This process's share of one global batch; every process gets equally many, some may be empty.

    Args:
        rows: Row numbers of the global batch.
        plan: The shape of the run.
        rank: This process.
    """
    size = plan.micro_batch_size
    chunks = [list(rows[start : start + size]) for start in range(0, len(rows), size)]
    rounds = math.ceil(len(chunks) / plan.world_size)
    chunks += [[] for _ in range(rounds * plan.world_size - len(chunks))]
    return chunks[rank :: plan.world_size]


def row_generators(sample_ids: Sequence[str], *, seed: int, epoch: int) -> list[torch.Generator]:
    """One CPU generator per row, the same wherever and whenever the row is drawn."""
    return [torch.Generator().manual_seed(_hash(seed, epoch, name)) for name in sample_ids]


def split_validation(
    sample_ids: Sequence[str], fraction: float, *, seed: int
) -> tuple[list[int], list[int]]:
    """Row numbers for (training, validation); rows of one group must share their id here."""
    if fraction == 0.0:
        return list(range(len(sample_ids))), []
    held_out = [_hash(seed, 0, f"validation {name}") / 2**63 < fraction for name in sample_ids]
    kept = [index for index, out in enumerate(held_out) if not out]
    return kept, [index for index, out in enumerate(held_out) if out]


def _hash(seed: int, epoch: int, name: str) -> int:
    digest = hashlib.blake2b(f"{seed}/{epoch}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
