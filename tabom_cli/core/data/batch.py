"""Clean training rows and how they are padded into a batch. Knows no objective and no file.

Shape letters: B batch, P padded prompt, T response, L = P + T.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tabom_cli.core.errors import DataError


@dataclass(frozen=True)
class TrainingRow:
    """One tokenised row.

    Attributes:
        sample_id: Stable id; randomness is keyed by it.
        group_id: Rows that answer the same prompt share it.
        prompt_token_ids: Rendered prompt with the assistant header, already within its budget.
        response_token_ids: Response ids, at most T.
        decoding_order: Forward pass per response token, -1 never; None when the data has none and
            the objective needs none.
        decoding_entropy: Raw entropy per response token in nats, None when unknown.
        non_ltr_positions: Response indices decoded out of left-to-right order.
        reward: None when unknown.
    """

    sample_id: str
    group_id: str
    prompt_token_ids: tuple[int, ...]
    response_token_ids: tuple[int, ...]
    decoding_order: tuple[int, ...] | None = None
    decoding_entropy: tuple[float, ...] | None = None
    non_ltr_positions: tuple[int, ...] = ()
    reward: float | None = None


@dataclass(frozen=True)
class Batch:
    """Clean rows, ready to be masked.

    Attributes:
        input_ids: (B, L) int64, clean tokens; prompts are left-padded to a common length P, so that
            the response occupies positions P..L-1 of every row.
        attention_mask: (B, L) bool, False only for prompt padding.
        response_mask: (B, L) bool, True on the T response positions.
        padding_mask: (B, L) bool, True on response positions that hold the pad id.
        decoding_order: (B, L) int64, forward pass that revealed the token; -1 outside the response
            and for tokens that were never decoded.
        decoding_entropy: (B, L) float32, raw entropy in nats just before the reveal; NaN where unknown.
        non_ltr_mask: (B, L) bool, True where the token was decoded out of left-to-right order.
        sample_ids: B stable row ids; randomness is keyed by them.
        group_ids: B group ids (rows of one prompt share one).
        reward: (B,) float32, NaN for a row without one; None when no row has a reward.
    """

    input_ids: Tensor
    attention_mask: Tensor
    response_mask: Tensor
    padding_mask: Tensor
    decoding_order: Tensor
    decoding_entropy: Tensor
    non_ltr_mask: Tensor
    sample_ids: tuple[str, ...]
    group_ids: tuple[str, ...]
    reward: Tensor | None = None


def collate(rows: Sequence[TrainingRow], *, response_length: int, pad_token_id: int) -> Batch:
    """Rows padded to one rectangle: prompts on the left, responses on the right.

    Args:
        rows: At least one row; a response longer than `response_length` is cut with its order.
        response_length: T, the number of response positions of every row.
        pad_token_id: Fills both sides; equals the end-of-text id in both published families, which is
            why the attention mask never comes from ids.

    Returns:
        The batch on the CPU, L = longest prompt + T.

    Raises:
        DataError: No row, a row without a prompt, or a negative non-LTR position; all faults at once.
    """
    _check(rows)
    prompt_length = max(len(row.prompt_token_ids) for row in rows)
    shape = (len(rows), prompt_length + response_length)
    # One tensor per field from padded lists: filling row by row costs 200 times the calls.
    prompt_ids = _left_padded([row.prompt_token_ids for row in rows], prompt_length, pad_token_id)
    response_ids = _right_padded(
        [row.response_token_ids for row in rows], response_length, pad_token_id
    )
    orders = _right_padded([row.decoding_order or () for row in rows], response_length, -1)
    entropies = _right_padded(
        [row.decoding_entropy or () for row in rows], response_length, math.nan
    )
    input_ids = torch.tensor(
        [[*prompt, *response] for prompt, response in zip(prompt_ids, response_ids, strict=True)],
        dtype=torch.int64,
    )
    lengths = torch.tensor([len(row.prompt_token_ids) for row in rows])
    attention_mask = torch.arange(shape[1]) >= (prompt_length - lengths)[:, None]
    decoding_order = torch.full(shape, -1, dtype=torch.int64)
    decoding_order[:, prompt_length:] = torch.tensor(orders, dtype=torch.int64)
    decoding_entropy = torch.full(shape, math.nan, dtype=torch.float32)
    decoding_entropy[:, prompt_length:] = torch.tensor(entropies, dtype=torch.float32)
    non_ltr_mask = torch.zeros(shape, dtype=torch.bool)
    for index, row in enumerate(rows):
        positions = [r for r in row.non_ltr_positions if r < response_length]
        if positions:
            non_ltr_mask[index, prompt_length:][positions] = True
    response_mask = torch.zeros(shape, dtype=torch.bool)
    response_mask[:, prompt_length:] = True
    return Batch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        response_mask=response_mask,
        padding_mask=response_mask & (input_ids == pad_token_id),
        decoding_order=decoding_order.clamp(min=-1),
        decoding_entropy=decoding_entropy,
        non_ltr_mask=non_ltr_mask,
        sample_ids=tuple(row.sample_id for row in rows),
        group_ids=tuple(row.group_id for row in rows),
        reward=_rewards(rows),
    )


def _check(rows: Sequence[TrainingRow]) -> None:
    if not rows:
        raise DataError("a batch needs at least one row")
    faults = []
    for row in rows:
        if not row.prompt_token_ids:
            faults.append(f"row '{row.sample_id}' has an empty prompt")
        if any(position < 0 for position in row.non_ltr_positions):
            faults.append(f"row '{row.sample_id}' has a negative entry in non_ltr_positions")
    if faults:
        raise DataError("\n".join(faults))


def _left_padded(rows: Sequence[Sequence[int]], length: int, filler: int) -> list[list[int]]:
    return [[filler] * (length - len(row)) + list(row) for row in rows]


def _right_padded(rows: Sequence[Sequence[float]], length: int, filler: float) -> list[list[float]]:
    return [[*row[:length], *[filler] * (length - len(row))] for row in rows]


def _rewards(rows: Sequence[TrainingRow]) -> Tensor | None:
    if all(row.reward is None for row in rows):
        return None
    return torch.tensor(
        [math.nan if row.reward is None else row.reward for row in rows], dtype=torch.float32
    )
