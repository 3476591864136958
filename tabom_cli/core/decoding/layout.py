"""Where the rows' positions lie in the batch: indices, chunks, checks and snapshots.

Knows rows and plans; no model and no strategy.
Shape letters: B rows, T response length, M selected positions of all rows, n those of one row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tabom_cli.core.decoding.records import StepView
from tabom_cli.core.decoding.row import Plan, Row
from tabom_cli.core.decoding.strategies.base import Segment
from tabom_cli.core.errors import RunError


def flat_index(positions: Sequence[Tensor], response_length: int) -> Tensor:
    """(M,) indices into the flattened (B, T) grid."""
    return torch.cat([n + row * response_length for row, n in enumerate(positions)])


def segments(rows: Sequence[Row], plans: Sequence[Plan], chunk: slice) -> list[Segment]:
    """Which rows and positions the M-range `chunk` covers, in chunk coordinates."""
    found: list[Segment] = []
    offset = 0
    for row, plan in zip(rows, plans, strict=True):
        first = max(chunk.start - offset, 0)
        last = min(chunk.stop - offset, len(plan.positions_n))
        if first < last:
            start = offset + first - chunk.start
            inside = slice(start, start + last - first)
            found.append(Segment(inside, plan.positions_n[first:last], row.memory))
        offset += len(plan.positions_n)
    return found


def check_finite(rows: Sequence[Row], positions: Sequence[Tensor], finite_M: Tensor) -> None:
    """Refuse predictions that are not finite.

    Raises:
        RunError: Some are not; names the requests with step and first position.
    """
    if bool(finite_M.all()):
        return
    split = finite_M.split([len(positions_n) for positions_n in positions])
    bad = [
        f"'{row.request.id}' (step {row.step}, response position {int(n[~finite][0])})"
        for row, n, finite in zip(rows, positions, split, strict=True)
        if not bool(finite.all())
    ]
    raise RunError(
        f"logits are not finite for request {', '.join(bad)}",
        hint="the weights or the adapter hold NaN or infinity, or the dtype overflows: "
        "float16 is not suited, use bfloat16 or float32",
    )


def view(rows: Sequence[Row], entropy_BT: Tensor) -> StepView:
    """What an observer sees of the rows as they are now."""
    masked_BT = torch.stack([row.masked_T for row in rows])
    return StepView(
        request_ids=tuple(row.request.id for row in rows),
        step_B=torch.tensor([row.step for row in rows]),
        canvas_BT=torch.stack([row.tokens_T for row in rows]),
        masked_BT=masked_BT,
        entropy_BT=entropy_BT.masked_fill(~masked_BT, torch.nan),
    )
