"""Reveal as many positions as can be decoded together without much risk (Fast-dLLM factor rule).

With certainties sorted c_1 >= c_2 >= ..., the longest prefix is taken in which every n >= 2 satisfies
c_n >= 1 - factor / (n + 1): the more tokens at once, the surer each must be. The public code takes one
token too many when the rule fails at the last position only; here it does not.
Source: Fast-dLLM (arXiv 2505.22618), code in dInfer `parallel_strategy.py`.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Generator, Tensor

from tabom_cli.core.config import Section
from tabom_cli.core.decoding.proposal import Candidates
from tabom_cli.core.decoding.strategies.base import CountsByRule, Ranked


class FactorOptions(Section):
    """Settings of `factor`."""

    factor: float = Field(1.0, gt=0.0)
    """Risk accepted per step; larger reveals more."""


class Factor(CountsByRule):
    """Certainty is the unmodified probability of the proposed token."""

    Options = FactorOptions
    options: FactorOptions

    def certainty(self, candidates: Candidates) -> Tensor:
        """(N,) float64 probabilities."""
        return candidates.token_probability_64

    def select(self, ranked: Ranked, quota: int | None, generator: Generator) -> Tensor:
        """Indices of the longest prefix that satisfies the rule, at least one."""
        if quota is not None:
            return ranked.order_n[:quota]
        sorted_n = ranked.certainty_n[ranked.order_n]
        ranks_n = torch.arange(1, len(sorted_n) + 1, dtype=torch.float64)
        accepted_n = sorted_n >= 1.0 - self.options.factor / (ranks_n + 1.0)
        accepted_n[0] = True
        return ranked.order_n[: int(accepted_n.long().cumprod(0).sum())]


STRATEGY = Factor
