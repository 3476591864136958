"""Masked states: draws of cuts, mask ratios and subsets, and what a draw makes of a batch.

Every draw is one function with a generator, every consequence one without, so that a recorded draw
gives the same state again. Knows no loss and no model.

Shape letters: B batch, L sequence, T response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tabom_cli.core.data.batch import Batch


@dataclass(frozen=True)
class Cuts:
    """Where each trajectory is cut and how many steps are scored behind the cut.

    Attributes:
        cut: (B,) int64, first supervised decoding step; -1 masks the whole response unscored.
        window: (B,) int64, number of steps from the cut whose tokens are supervised.
    """

    cut: Tensor
    window: Tensor


def maskable_positions(batch: Batch, *, include_padding: bool) -> Tensor:
    """(B, L) bool: response positions that may be scored, with or without the padding slots."""
    return batch.response_mask if include_padding else batch.response_mask & ~batch.padding_mask


def last_steps(batch: Batch, maskable_BL: Tensor) -> Tensor:
    """(B,) int64: the last decoding step of a maskable token per row, -1 for a row without one."""
    return batch.decoding_order.masked_fill(~maskable_BL, -1).amax(dim=1)


def draw_cut(upper: int, candidates: Sequence[int], generator: torch.Generator) -> int:
    """A cut drawn uniformly from `candidates`, or from 0..upper when there are none."""
    if candidates:
        return candidates[int(torch.randint(len(candidates), (1,), generator=generator))]
    return int(torch.randint(upper + 1, (1,), generator=generator))


def non_ltr_steps(batch: Batch, row: int, upper: int) -> list[int]:
    """Sorted distinct steps, at most `upper`, at which a row left the left-to-right order."""
    steps = batch.decoding_order[row][batch.non_ltr_mask[row]]
    return [int(step) for step in steps.unique() if 0 <= int(step) <= upper]


def mask_from_cuts(
    batch: Batch, cuts: Cuts, *, maskable_BL: Tensor, mask_token_id: int
) -> tuple[Tensor, Tensor]:
    """Hide everything that was not decoded before the cut.

    Args:
        batch: Clean rows.
        cuts: One cut and window per row.
        maskable_BL: Positions that may be supervised.
        mask_token_id: The id that hides a token.

    Returns:
        input_ids (B, L) with masks, and supervised_mask (B, L): maskable positions whose step lies in
        [cut, cut + window). Tokens that were never decoded (step -1) are hidden and not supervised.
    """
    cut_B1, window_B1 = cuts.cut[:, None], cuts.window[:, None]
    order_BL = batch.decoding_order
    visible_BL = ~batch.response_mask | ((order_BL >= 0) & (order_BL < cut_B1))
    input_ids = batch.input_ids.masked_fill(~visible_BL, mask_token_id)
    in_window_BL = (order_BL >= cut_B1) & (order_BL < cut_B1 + window_B1)
    supervised_BL = maskable_BL & in_window_BL & (cut_B1 >= 0)
    return input_ids, supervised_BL


def draw_uniforms(num: int, generator: torch.Generator) -> Tensor:
    """(num,) float32 in [0, 1)."""
    return torch.rand(num, generator=generator)


def mask_below_ratio(
    maskable_BL: Tensor, response_mask_BL: Tensor, ratio_B: Tensor, uniforms_BT: Tensor
) -> Tensor:
    """(B, L) bool: maskable positions whose uniform number lies below the row's mask ratio.

    Args:
        maskable_BL: Positions that may be masked.
        response_mask_BL: The T response positions, the same in every row.
        ratio_B: Mask probability per row.
        uniforms_BT: One number in [0, 1) per response position, so that a row's mask does not depend
            on how far its batch mates pad the prompt.
    """
    uniforms_BL = torch.ones_like(maskable_BL, dtype=uniforms_BT.dtype)
    uniforms_BL[response_mask_BL] = uniforms_BT.flatten()
    return maskable_BL & (uniforms_BL < ratio_B[:, None])


def num_masked(num_maskable: int, ratio: float) -> int:
    """How many of `num_maskable` positions a fixed ratio hides: at least one, half rounds to even."""
    return max(1, round(num_maskable * ratio)) if num_maskable else 0


def mask_subsets(
    maskable_BL: Tensor, ratio_B: Sequence[float], permutations: Sequence[Tensor]
) -> Tensor:
    """(B, L) bool: per row the first `num_masked` maskable positions of a permutation.

    Args:
        maskable_BL: Positions that may be masked; a row has n of them.
        ratio_B: Share to mask per row.
        permutations: One permutation of 0..n-1 per row, empty for a row without maskable positions.
    """
    masked_BL = torch.zeros_like(maskable_BL)
    for row, (ratio, permutation) in enumerate(zip(ratio_B, permutations, strict=True)):
        positions = maskable_BL[row].nonzero()[:, 0]
        chosen = permutation[: num_masked(len(positions), ratio)]
        masked_BL[row, positions[chosen]] = True
    return masked_BL
