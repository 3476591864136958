"""A policy small enough to train in milliseconds: embedding, one mixing layer, head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tabom_cli.core.data.batch import TrainingRow
from tabom_cli.core.models.base import DiffusionLM, SpecialIds

VOCABULARY, MASK, EOS = 20, 19, 0


class ToyNetwork(nn.Module):
    """Every position sees the mean of real positions and itself; places count from the right end."""

    def __init__(self, width: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(VOCABULARY, width)
        self.place = nn.Embedding(64, width)
        self.mix = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, VOCABULARY)

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x = self.embed(input_ids) + self.place(torch.arange(input_ids.shape[1]).flip(0))
        weight = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        weight = weight.to(x.dtype)[..., None]
        mean = (x * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        return torch.tanh(self.mix(self.dropout(x + mean)))

    def logits(self, hidden: Tensor) -> Tensor:
        return self.head(hidden)


def toy_policy(dropout: float = 0.0) -> DiffusionLM:
    """A fresh policy with the same weights every time."""
    ids = SpecialIds(mask=MASK, eos=EOS, pad=EOS, end=frozenset({EOS}))
    return DiffusionLM("toy", ToyNetwork(dropout=dropout), None, ids, "toy")


def toy_rows(count: int, length: int = 6) -> list[TrainingRow]:
    """Rows of unequal prompts with a decoding order that is a permutation."""
    generator = torch.Generator().manual_seed(3)
    rows = []
    for index in range(count):
        order = torch.randperm(length, generator=generator).tolist()
        response = [1 + 3 * place + index % 2 for place in range(length)]
        rows.append(
            TrainingRow(
                sample_id=f"row{index}",
                group_id=f"group{index // 2}",
                prompt_token_ids=tuple(range(1, 2 + index % 3)),
                response_token_ids=tuple(response),
                decoding_order=tuple(order),
            )
        )
    return rows
