"""Clean training rows and how they are padded into a batch. Knows no objective and no file.

Shape letters: B batch, P padded prompt, T response, L = P + T.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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
        reward: (B,) float32, or None when the data has no rewards.
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
