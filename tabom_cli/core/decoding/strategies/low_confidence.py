"""Reveal the positions whose token is the most probable under the un-noised logits (LLaDA).

What LLaDA's `remasking="low_confidence"` does: positions of low confidence stay masked. Differs from
`maskgit_plus` in that the ranking never sees temperature or filters, and that tokens are drawn by
Gumbel noise. Source: ML-GSAI/LLaDA `generate.py`.
"""

from __future__ import annotations

from torch import Tensor

from tabom_cli.core.decoding.proposal import Candidates
from tabom_cli.core.decoding.strategies.base import Strategy


class LowConfidence(Strategy):
    """Certainty is the unmodified probability of the proposed token."""

    ranks_raw = True
    uses_gumbel = True

    def certainty(self, candidates: Candidates) -> Tensor:
        """(N,) float32 probabilities."""
        return candidates.token_probability


STRATEGY = LowConfidence
