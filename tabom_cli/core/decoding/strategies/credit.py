"""Favour tokens that a position has been predicting for several steps (credit decoding).

Each position keeps credit per token within a block: at every forward it decays and the current top-1
token gains p^exponent. Proposal and ranking use logits + weight * log(1 + credit). Only tokens that were
top-1 hold credit, so (token, credit) pairs are kept instead of a (T, V) table.
Source: dInfer `parallel_strategy.py` and the TABOM release's LLaDA generator.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from tabom_cli.core.config import Section
from tabom_cli.core.decoding.proposal import Candidates
from tabom_cli.core.decoding.strategies.base import Segment, Strategy
from tabom_cli.core.numerics import log_probs


class CreditOptions(Section):
    """Settings of `credit`."""

    decay: float = Field(0.8, ge=0.0, le=1.0)
    """What remains of a credit at the next forward pass."""
    exponent: float = Field(0.2, gt=0.0)
    """The top-1 token gains its probability to this power."""
    weight: float = Field(0.7, ge=0.0)
    """Weight of log(1 + credit) in the fused logits."""


class Credit(Strategy):
    """Certainty is the fused probability of the proposed token; counts follow schedule or threshold."""

    Options = CreditOptions
    options: CreditOptions
    ranks_raw = True
    uses_gumbel = True
    needs_every_step = True

    def certainty(self, candidates: Candidates) -> Tensor:
        """(N,) float32 probabilities under the fused logits."""
        return candidates.token_probability

    def adjust_logits(self, logits_NV: Tensor, segments: Sequence[Segment]) -> Tensor:
        """Update each position's credit from this forward pass, then add it to the logits."""
        best = log_probs(logits_NV).max(dim=-1)
        gain_N = best.values.exp() ** self.options.exponent
        for segment in segments:
            rows = segment.chunk_rows
            tokens_nH, credit_nH = self._collect(segment, best.indices[rows], gain_N[rows])
            bonus_nH = self.options.weight * torch.log1p(credit_nH)
            # Empty slots point at id 0 and add nothing there.
            logits_NV[rows].scatter_add_(-1, tokens_nH.clamp(min=0), bonus_nH)
        return logits_NV

    def _collect(self, segment: Segment, token_n: Tensor, gain_n: Tensor) -> tuple[Tensor, Tensor]:
        """Ids (-1 for an empty slot) and credits of one row's positions, the new gain included."""
        device = token_n.device
        length = self.config.max_new_tokens
        tokens_TH = segment.memory.get("tokens", torch.empty(length, 0, dtype=torch.int64))
        credit_TH = segment.memory.get("credit", torch.empty(length, 0))
        positions_n = segment.positions_n
        tokens_nH = tokens_TH.to(device)[positions_n]
        credit_nH = credit_TH.to(device)[positions_n] * self.options.decay
        known_nH = tokens_nH == token_n[:, None]
        credit_nH = credit_nH + known_nH * gain_n[:, None]
        is_new_n = ~known_nH.any(dim=-1)
        tokens_nH = torch.cat((tokens_nH, torch.where(is_new_n, token_n, -1)[:, None]), dim=-1)
        credit_nH = torch.cat((credit_nH, (gain_n * is_new_n)[:, None]), dim=-1)
        segment.memory["tokens"] = _store(tokens_TH, positions_n, tokens_nH, empty=-1)
        segment.memory["credit"] = _store(credit_TH, positions_n, credit_nH, empty=0)
        return tokens_nH, credit_nH


def _store(table_TH: Tensor, positions_n: Tensor, values_nH: Tensor, *, empty: int) -> Tensor:
    """The table, widened to the values' columns, with the values written at their positions."""
    width = values_nH.shape[-1]
    wider = torch.full((table_TH.shape[0], width), empty, dtype=values_nH.dtype)
    wider = wider.to(values_nH.device)
    wider[:, : table_TH.shape[-1]] = table_TH
    wider[positions_n] = values_nH
    return wider


STRATEGY = Credit
