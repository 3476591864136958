"""Masked micro-batches of every optimizer step, prepared ahead of the device.

Knows rows, order and the objective's `prepare`; never touches the model. What comes out is a function
of the step alone, whatever the number of worker processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch.utils.data import DataLoader, Dataset

from tabom_cli.core.data.batch import TrainingRow, collate
from tabom_cli.core.objectives.base import Objective, PartialState
from tabom_cli.core.training import order

Share = list[tuple[PartialState, float]]
"""One process's micro-batches of one step, each with weight 1, or 0 when it only keeps pace."""


@dataclass(frozen=True)
class Feed:
    """Where micro-batches come from.

    Attributes:
        objective: Draws the masks.
        rows: Training rows.
        response_length: T in tokens.
        pad_token_id: Fills rows.
        mask_token_id: Hides tokens.
        seed: The recipe's seed.
        global_batch_size: Rows per optimizer step over all processes.
    """

    objective: Objective
    rows: Sequence[TrainingRow]
    response_length: int
    pad_token_id: int
    mask_token_id: int
    seed: int
    global_batch_size: int

    def prepare(self, chunk: Sequence[int], epoch: int) -> tuple[PartialState, float]:
        """A masked micro-batch and its weight; an empty chunk repeats a row with weight zero."""
        chosen = [self.rows[index] for index in chunk] or [self.rows[0]]
        batch = collate(
            chosen, response_length=self.response_length, pad_token_id=self.pad_token_id
        )
        generators = order.row_generators(batch.sample_ids, seed=self.seed, epoch=epoch)
        state = self.objective.prepare(batch, generators, self.mask_token_id)
        return state, 1.0 if chunk else 0.0

    def steps(
        self, plan: order.StepPlan, *, rank: int, start: int, workers: int
    ) -> Iterator[tuple[int, Share]]:
        """(step, share) from step `start` to the end of the plan.

        Args:
            plan: The shape of the run.
            rank: This process.
            start: First step, counted from 0.
            workers: Worker processes that prepare steps ahead; 0 prepares in this process.
        """
        dataset = _Steps(self, plan, rank)
        steps = range(start, plan.total_steps)
        # The loader draws a base seed from a generator; without its own it would move the global one,
        # which dropout uses, and a resumed run would differ from an uninterrupted one.
        loader: DataLoader[Share] = DataLoader(
            dataset,
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            generator=order.row_generators(["loader"], seed=self.seed, epoch=0)[0],
        )
        yield from zip(steps, loader, strict=True)


class _Steps(Dataset[Share]):
    """Step number to share, keeping the order of the epoch it was last asked about."""

    def __init__(self, feed: Feed, plan: order.StepPlan, rank: int) -> None:
        self.feed, self.plan, self.rank = feed, plan, rank
        self.epoch = -1
        self.order: list[int] = []

    def __getitem__(self, step: int) -> Share:
        epoch, position = divmod(step, self.plan.steps_per_epoch)
        if epoch != self.epoch:
            self.order = order.epoch_order(len(self.feed.rows), seed=self.feed.seed, epoch=epoch)
            self.epoch = epoch
        size = self.feed.global_batch_size
        chosen = self.order[position * size : (position + 1) * size]
        mine = order.micro_batches(chosen, self.plan, self.rank)
        return [self.feed.prepare(chunk, epoch) for chunk in mine]
