"""Reveal the positions whose best token leads the second best by most (Dream `topk_margin`).

Source: Dream-v0-Instruct-7B generation, alg="topk_margin".
"""

from __future__ import annotations

from torch import Tensor

from tabom_cli.core.decoding.proposal import Candidates
from tabom_cli.core.decoding.strategies.base import Strategy


class TopkMargin(Strategy):
    """Certainty is p(1) - p(2) of the ranking distribution."""

    def certainty(self, candidates: Candidates) -> Tensor:
        """(N,) float32 margins between 0 and 1."""
        best_two = candidates.ranking_log_probs.topk(2, dim=-1).values.exp()
        return best_two[:, 0] - best_two[:, 1]


STRATEGY = TopkMargin
