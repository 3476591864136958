"""The state of one answer while it is decoded: everything that must not depend on batch mates.

Knows no model and no strategy. Shape letter: T response positions; all tensors live on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tabom_cli.core.decoding.records import NEVER, DecodeRequest, DecodeResult
from tabom_cli.core.decoding.schedule import TransferSchedule


class Row:
    """Canvas, record, step counter, block and generator of one request.

    Attributes:
        request: What is being decoded.
        tokens_T: (T,) int64 response canvas.
        masked_T: (T,) bool, True where undecided. The only truth about masks; ids are never compared.
        order_T: (T,) int64 step that revealed the position.
        entropy_T: (T,) float32 raw entropy just before the reveal.
        generator: The row's own source of randomness, seeded by the request.
        step: Steps taken so far; the index of the next forward pass.
        block: Current block.
        block_step: Steps taken in it.
        num_forwards: Forward passes needed so far.
        memory: What the strategy keeps for this row until the block ends.
    """

    def __init__(self, request: DecodeRequest, *, response_length: int, mask_token_id: int) -> None:
        """Start with an empty answer: `response_length` masks."""
        self.request = request
        self.prompt_P = torch.tensor(request.prompt_token_ids, dtype=torch.int64)
        self.tokens_T = torch.full((response_length,), mask_token_id, dtype=torch.int64)
        self.masked_T = torch.ones(response_length, dtype=torch.bool)
        self.order_T = torch.full((response_length,), NEVER, dtype=torch.int64)
        self.entropy_T = torch.full((response_length,), float(NEVER), dtype=torch.float32)
        self.generator = torch.Generator().manual_seed(request.seed)
        self.step = 0
        self.block = 0
        self.block_step = 0
        self.num_forwards = 0
        self.memory: dict[str, Tensor] = {}

    @property
    def finished(self) -> bool:
        """Whether no mask is left."""
        return not bool(self.masked_T.any())

    def masked_in(self, low: int, high: int) -> Tensor:
        """(n,) int64 undecided positions in [low, high), ascending."""
        return self.masked_T[low:high].nonzero()[:, 0] + low

    def reveal(self, positions_n: Tensor, tokens_n: Tensor, entropy_n: Tensor) -> None:
        """Decide positions at the current step."""
        self.tokens_T[positions_n] = tokens_n
        self.masked_T[positions_n] = False
        self.order_T[positions_n] = self.step
        self.entropy_T[positions_n] = entropy_n

    def advance(self, schedule: TransferSchedule) -> None:
        """Count a step and move to the next block when this one is done."""
        self.step += 1
        self.block_step += 1
        out_of_steps = self.block_step == schedule.num_steps(self.block)
        low, high = schedule.block_range(self.block)
        decoded = not bool(self.masked_T[low:high].any())
        if out_of_steps or (decoded and not schedule.runs_all_steps):
            self.block += 1
            self.block_step = 0
            self.memory = {}

    def stop_behind(self, end_ids: frozenset[int], pad_token_id: int) -> None:
        """Fill all masked positions with padding if a decided end token stands before each of them."""
        if self.finished:
            return
        first_mask = int(self.masked_T.nonzero()[0, 0])
        if end_ids.isdisjoint(self.tokens_T[:first_mask].tolist()):
            return
        self.tokens_T[self.masked_T] = pad_token_id
        self.masked_T[:] = False

    def result(self) -> DecodeResult:
        """The answer and its record."""
        return DecodeResult(
            id=self.request.id,
            response_token_ids=self.tokens_T.tolist(),
            decoding_order=self.order_T.tolist(),
            decoding_entropy=self.entropy_T.tolist(),
            num_steps=self.step,
            num_forwards=self.num_forwards,
        )


@dataclass(frozen=True, eq=False)
class Plan:
    """What a row wants from the coming forward pass.

    Attributes:
        positions_n: (n,) response positions whose logits are needed, ascending.
        quota: How many of them to reveal; None when certainty decides.
        preselected: The positions are exactly the ones to reveal.
    """

    positions_n: Tensor
    quota: int | None
    preselected: bool = False
