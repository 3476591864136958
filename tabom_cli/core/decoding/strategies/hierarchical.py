"""Reveal one position in each run of masks, so that neighbours are not decided together (dInfer).

Works on each row by itself; the original handles a batch of one.
Source: dInfer `parallel_strategy.py` (hierarchical decoding).
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Generator, Tensor

from tabom_cli.core.config import Section
from tabom_cli.core.decoding.proposal import Candidates
from tabom_cli.core.decoding.strategies.base import CountsByRule, Ranked


class HierarchicalOptions(Section):
    """Settings of `hierarchical`."""

    low: float = Field(0.4, ge=0.0, le=1.0)
    """A run's best position is revealed when its probability is above this."""
    high: float | None = Field(None, ge=0.0, le=1.0)
    """Every position above this is revealed; null: none for that reason."""


class Hierarchical(CountsByRule):
    """Certainty is the unmodified probability of the proposed token."""

    Options = HierarchicalOptions
    options: HierarchicalOptions

    def certainty(self, candidates: Candidates) -> Tensor:
        """(N,) float64 probabilities."""
        return candidates.token_probability_64

    def select(self, ranked: Ranked, quota: int | None, generator: Generator) -> Tensor:
        """Indices of the overall best, of each run's best above `low`, and of all above `high`."""
        if quota is not None:
            return ranked.order_n[:quota]
        certainty_n = ranked.certainty_n
        chosen_n = torch.zeros_like(certainty_n, dtype=torch.bool)
        if self.options.high is not None:
            chosen_n |= certainty_n > self.options.high
        starts_run_n = torch.ones_like(chosen_n)
        starts_run_n[1:] = ranked.positions_n.diff() > 1
        run_n = starts_run_n.long().cumsum(0)
        runs_seen: set[int] = set()
        for index, run in zip(ranked.order_n.tolist(), run_n[ranked.order_n].tolist(), strict=True):
            if run not in runs_seen and float(certainty_n[index]) > self.options.low:
                chosen_n[index] = True
            runs_seen.add(run)
        chosen_n[ranked.order_n[0]] = True
        return chosen_n.nonzero()[:, 0]


STRATEGY = Hierarchical
