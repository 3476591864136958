"""Toy policies and batches for the objective tests. Knows no objective."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tabom_cli.core.data.batch import Batch, TrainingRow, collate

MASK_ID, PAD_ID, VOCABULARY = 11, 10, 12


class GivenLogits:
    """A policy whose hidden states are given logits; counts what reaches its head.

    Args:
        response_logits: (B, T, V), placed behind the prompt.
    """

    mask_token_id, eos_token_id, pad_token_id = MASK_ID, PAD_ID, PAD_ID

    def __init__(self, response_logits: Tensor) -> None:
        self.response_logits = response_logits
        self.seen_ids: Tensor | None = None
        self.seen_attention: Tensor | None = None
        self.head_rows = 0

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        self.seen_ids, self.seen_attention = input_ids, attention_mask
        num_rows, response, vocabulary = self.response_logits.shape
        prompt = input_ids.shape[1] - response
        padding = self.response_logits.new_zeros(num_rows, prompt, vocabulary)
        return torch.cat([padding, self.response_logits], dim=1)

    def logits(self, hidden: Tensor) -> Tensor:
        self.head_rows += hidden.shape[0]
        return hidden


class TinyNetwork(nn.Module):
    """A small network without interaction between rows: embedding, mixing, head."""

    mask_token_id, eos_token_id, pad_token_id = MASK_ID, PAD_ID, PAD_ID

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embedding = nn.Parameter(torch.randn(VOCABULARY, 6, generator=generator).to(dtype))
        self.head = nn.Parameter(torch.randn(6, VOCABULARY, generator=generator).to(dtype))

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        embedded = self.embedding[input_ids]
        weight = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        weight = weight.to(embedded.dtype)[..., None]
        place = torch.arange(input_ids.shape[1], 0, -1, dtype=embedded.dtype)[None, :, None]
        mean = (embedded * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        return torch.tanh(embedded + mean + place.sin())

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden @ self.head


def make_batch(
    orders: Sequence[Sequence[int]],
    *,
    response_length: int,
    prompts: Sequence[Sequence[int]] | None = None,
    responses: Sequence[Sequence[int]] | None = None,
    entropies: Sequence[Sequence[float] | None] | None = None,
    non_ltr: Sequence[Sequence[int]] | None = None,
    names: Sequence[str] | None = None,
) -> Batch:
    """Rows with the given decoding orders; responses default to tokens below the pad id."""
    rows = []
    for index, order in enumerate(orders):
        response = [(3 * index + 2 * r) % PAD_ID for r in range(response_length)]
        rows.append(
            TrainingRow(
                sample_id=names[index] if names else f"row{index}",
                group_id=f"group{index}",
                prompt_token_ids=tuple(prompts[index]) if prompts else (1, 2),
                response_token_ids=tuple(responses[index]) if responses else tuple(response),
                decoding_order=tuple(order),
                decoding_entropy=tuple(entropies[index] or ()) if entropies else None,
                non_ltr_positions=tuple(non_ltr[index]) if non_ltr else (),
            )
        )
    return collate(rows, response_length=response_length, pad_token_id=PAD_ID)


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One CPU generator per row."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]
