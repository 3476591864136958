"""Which token pairs are ranked, and the hinge loss over them (Eq. 8 of TABOM).

Supervised tokens are packed to the left of each row, so that all rows are scored at once. Knows
neither masks nor models.

Shape letters: B batch, L sequence, K packed supervised tokens of a row, N all supervised tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Ties = Literal["strict", "entropy", "slot"]


@dataclass(frozen=True)
class RankingSums:
    """Sums over the rows and pairs of a micro-batch.

    Attributes:
        loss: Scalar with gradient, sum over rows of the mean hinge of the row's pairs.
        num_rows: Scalar, rows with at least one pair.
        num_pairs: Scalar, pairs in all rows.
        num_ordered: Scalar, pairs whose earlier token has strictly less entropy.
        num_violated: Scalar, pairs with a positive hinge.
    """

    loss: Tensor
    num_rows: Tensor
    num_pairs: Tensor
    num_ordered: Tensor
    num_violated: Tensor


def pack(values_BL: Tensor, supervised_BL: Tensor, fill: float) -> Tensor:
    """(B, K): the supervised entries of each row from the left, `fill` behind them."""
    num_B = supervised_BL.sum(dim=1)
    slots_BK = packed_slots(num_B, int(num_B.max()))
    packed = torch.full(slots_BK.shape, fill, dtype=values_BL.dtype)
    packed[slots_BK] = values_BL[supervised_BL]
    return packed


def packed_slots(num_B: Tensor, width: int) -> Tensor:
    """(B, width) bool, True on the first `num_B[b]` slots of row b."""
    return torch.arange(width, device=num_B.device)[None, :] < num_B[:, None]


def ordered_pairs(step_BK: Tensor, ranked_BK: Tensor, ties: Ties, entropy_BK: Tensor) -> Tensor:
    """(B, K, K) bool: entry [b, i, j] is True when token i must get less entropy than token j.

    Args:
        step_BK: Decoding steps.
        ranked_BK: Tokens that take part.
        ties: Pairs of one step: `strict` leaves them out, `entropy` puts the one with the smaller
            recorded entropy first, `slot` the left one (a stable sort by step, as in the release).
        entropy_BK: Recorded entropies, read by `entropy` only; equal ones leave the pair out.
    """
    before_BKK = step_BK[:, :, None] < step_BK[:, None, :]
    tied_BKK = step_BK[:, :, None] == step_BK[:, None, :]
    if ties == "slot":
        slots = torch.arange(step_BK.shape[1])
        before_BKK = before_BKK | (tied_BKK & (slots[:, None] < slots[None, :]))
    elif ties == "entropy":
        before_BKK = before_BKK | (tied_BKK & (entropy_BK[:, :, None] < entropy_BK[:, None, :]))
    return before_BKK & ranked_BK[:, :, None] & ranked_BK[:, None, :]


def ranking_sums(
    entropy_N: Tensor, num_tokens_B: Tensor, pairs_BKK: Tensor, margin: float
) -> RankingSums:
    """Mean hinge `max(0, margin + H_i - H_j)` over each row's pairs, summed over rows.

    A row without pairs adds nothing. Example: H = [.5, .2, .9, .1] in step order with margin .3 has
    the six hinges [.6, 0, .7, 0, .4, 1.1], mean .466667, and gradient [1/3, 0, 1/6, -1/2].

    Args:
        entropy_N: Entropies in nats of all supervised tokens, row by row.
        num_tokens_B: Supervised tokens per row.
        pairs_BKK: Allowed pairs from `ordered_pairs`.
        margin: m, in nats.
    """
    # An index instead of masked_scatter: its backward pass would wait for the device.
    slots_BK = packed_slots(num_tokens_B, pairs_BKK.shape[1])
    first_B1 = (num_tokens_B.cumsum(dim=0) - num_tokens_B)[:, None]
    slot_K = torch.arange(pairs_BKK.shape[1], device=num_tokens_B.device)
    index_BK = torch.where(slots_BK, first_B1 + slot_K, entropy_N.shape[0])
    entropy_BK = torch.cat([entropy_N, entropy_N.new_zeros(1)])[index_BK]
    excess_BKK = entropy_BK[:, :, None] - entropy_BK[:, None, :]
    hinge_BKK = torch.where(pairs_BKK, torch.relu(excess_BKK + margin), 0.0)
    num_pairs_B = pairs_BKK.sum(dim=(1, 2))
    loss_B = hinge_BKK.sum(dim=(1, 2)) / num_pairs_B.clamp(min=1)
    return RankingSums(
        loss=loss_B.sum(),
        num_rows=(num_pairs_B > 0).sum(),
        num_pairs=num_pairs_B.sum(),
        num_ordered=(pairs_BKK & (excess_BKK.detach() < 0)).sum(),
        num_violated=(hinge_BKK.detach() > 0).sum(),
    )
