"""How many positions a row reveals at which of its steps. Knows no model and no certainty."""

from __future__ import annotations

import torch

from tabom_cli.core.decoding.config import DecodeConfig


class TransferSchedule:
    """Blocks of the response, the steps each gets, and the number of reveals at each step.

    Counts are per row: a row's own masked positions enter, never a mean over the batch. `time` is
    Dream's floor(m * (1 - s/t)) over linspace(1, eps, steps + 1), in float32 as in the reference;
    `even` is LLaDA's equal split, the remainder going to the first steps.
    """

    def __init__(self, config: DecodeConfig, *, fixed_counts: bool = True) -> None:
        """Plan all blocks.

        Args:
            config: The decode settings.
            fixed_counts: False when a strategy's own rule decides how many positions a step reveals.
        """
        self._config = config
        self._block_length = config.block_length or config.max_new_tokens
        self.num_blocks = config.max_new_tokens // self._block_length
        shortest, longer = divmod(config.steps, self.num_blocks)
        self._steps = [shortest + (block < longer) for block in range(self.num_blocks)]
        self._shares = {steps: self._step_shares(steps) for steps in set(self._steps)}
        self._by_rule = not fixed_counts or config.threshold is not None
        self.runs_all_steps = not self._by_rule and config.tokens_per_step is None
        """A block lasts all its planned steps; otherwise it ends as soon as it is decoded."""

    def block_range(self, block: int) -> tuple[int, int]:
        """First and one-past-last response position of a block."""
        return block * self._block_length, (block + 1) * self._block_length

    def num_steps(self, block: int) -> int:
        """Steps planned for a block."""
        return self._steps[block]

    def share(self, block: int, step: int) -> float:
        """Chance of a masked position to be revealed at this step of the block: 1 - s/t, 1 at the end."""
        return self._shares[self._steps[block]][step]

    def quota(self, block: int, step: int, num_masked: int) -> int | None:
        """Positions that a row reveals now.

        Args:
            block: The row's block.
            step: 0-based step within the block.
            num_masked: Masked positions left in the block.

        Returns:
            The count; None where certainty decides (threshold or a strategy's own rule), at least one
            being revealed then. The last step of a block always reveals what is left.
        """
        steps = self._steps[block]
        if step == steps - 1:
            return num_masked
        if self._by_rule:
            return None
        if self._config.tokens_per_step is not None:
            return min(self._config.tokens_per_step, num_masked)
        if self._config.schedule == "even":
            each, remainder = divmod(self._block_length, steps)
            return min(each + (step < remainder), num_masked)
        count = torch.tensor(num_masked, dtype=torch.float32) * self.share(block, step)
        return int(count.item())

    def _step_shares(self, steps: int) -> list[float]:
        """1 - s/t per step, float32 values; the even split spends 1/(steps left)."""
        if self._config.schedule == "even":
            shares = 1.0 / torch.arange(steps, 0, -1, dtype=torch.float32)
        else:
            times = torch.linspace(1.0, self._config.eps, steps + 1, dtype=torch.float32)
            shares = 1.0 - times[1:] / times[:-1]
        return [*shares.tolist()[:-1], 1.0]
