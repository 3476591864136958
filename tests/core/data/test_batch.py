"""Collation: padding, masks and what is known per token."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tabom_cli.core.data.batch import TrainingRow, collate
from tabom_cli.core.errors import DataError

PAD = 9


def _row(name: str = "a", **fields: Any) -> TrainingRow:
    defaults: dict[str, Any] = {
        "sample_id": name,
        "group_id": f"group-{name}",
        "prompt_token_ids": (1, 2),
        "response_token_ids": (3, 4, 5),
    }
    return TrainingRow(**{**defaults, **fields})


def test_prompts_are_padded_left_and_responses_right_to_one_rectangle() -> None:
    rows = [_row("a"), _row("b", prompt_token_ids=(1, 2, 3, 4), response_token_ids=(5,))]
    batch = collate(rows, response_length=4, pad_token_id=PAD)
    assert batch.input_ids.tolist() == [
        [PAD, PAD, 1, 2, 3, 4, 5, PAD],
        [1, 2, 3, 4, 5, PAD, PAD, PAD],
    ]
    assert batch.attention_mask.int().tolist() == [[0, 0, 1, 1, 1, 1, 1, 1], [1] * 8]
    assert batch.response_mask.int().tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 2
    assert batch.padding_mask.int().tolist() == [[0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1, 1, 1]]
    assert batch.input_ids.dtype == torch.int64
    assert batch.sample_ids == ("a", "b")
    assert batch.group_ids == ("group-a", "group-b")


def test_attention_never_comes_from_the_pad_id() -> None:
    row = _row(prompt_token_ids=(PAD, 1), response_token_ids=(2, PAD, 3))
    batch = collate([row, _row(prompt_token_ids=(1, 2, 3))], response_length=3, pad_token_id=PAD)
    assert batch.attention_mask[0].int().tolist() == [0, 1, 1, 1, 1, 1]
    assert batch.padding_mask[0].int().tolist() == [0, 0, 0, 0, 1, 0]


def test_long_response_is_cut_with_its_order_entropy_and_non_ltr_positions() -> None:
    row = _row(
        response_token_ids=(3, 4, 5, 6),
        decoding_order=(2, 0, 1, 3),
        decoding_entropy=(0.5, 0.25, 1.0, 2.0),
        non_ltr_positions=(0, 3),
    )
    batch = collate([row], response_length=2, pad_token_id=PAD)
    assert batch.input_ids.tolist() == [[1, 2, 3, 4]]
    assert batch.decoding_order.tolist() == [[-1, -1, 2, 0]]
    assert batch.decoding_entropy[0, 2:].tolist() == [0.5, 0.25]
    assert batch.non_ltr_mask.int().tolist() == [[0, 0, 1, 0]]


def test_order_reaches_behind_the_response_tokens_and_ends_with_minus_one() -> None:
    row = _row(response_token_ids=(3,), decoding_order=(1, 0))
    batch = collate([row], response_length=4, pad_token_id=PAD)
    assert batch.input_ids[0, 2:].tolist() == [3, PAD, PAD, PAD]
    assert batch.decoding_order[0, 2:].tolist() == [1, 0, -1, -1]
    assert batch.decoding_entropy[0].isnan().all()


def test_row_without_order_is_never_decoded() -> None:
    batch = collate([_row()], response_length=3, pad_token_id=PAD)
    assert (batch.decoding_order == -1).all()
    assert batch.decoding_entropy.dtype == torch.float32


def test_rewards_are_kept_and_missing_ones_are_nan() -> None:
    batch = collate([_row(reward=1.0), _row("b")], response_length=3, pad_token_id=PAD)
    assert batch.reward is not None
    assert batch.reward[0].item() == 1.0
    assert math.isnan(batch.reward[1].item())
    assert collate([_row()], response_length=3, pad_token_id=PAD).reward is None


def test_all_faulty_rows_are_named_at_once() -> None:
    rows = [_row("x", prompt_token_ids=()), _row("y"), _row("z", non_ltr_positions=(-1,))]
    with pytest.raises(DataError) as caught:
        collate(rows, response_length=3, pad_token_id=PAD)
    assert "'x'" in caught.value.message
    assert "'z'" in caught.value.message
    assert "'y'" not in caught.value.message
    with pytest.raises(DataError, match="at least one row"):
        collate([], response_length=3, pad_token_id=PAD)
