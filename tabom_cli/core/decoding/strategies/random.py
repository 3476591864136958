"""Reveal as many positions as the schedule says, at random (LLaDA `remasking="random"`).

Unlike `origin` the count is exact. Source: ML-GSAI/LLaDA `generate.py`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Generator, Tensor

from tabom_cli.core.decoding.proposal import Candidates
from tabom_cli.core.decoding.strategies.base import Ranked, Strategy


class Random(Strategy):
    """Every position is as good as any other; end tokens can still be put last."""

    uses_gumbel = True
    ignored_settings: ClassVar = {
        "threshold": "positions are taken at random",
        "alg_temp": "positions are taken at random",
        "confidence_temperature": "positions are taken at random",
    }

    def certainty(self, candidates: Candidates) -> Tensor:
        """(N,) zeros; `select` draws."""
        return torch.zeros_like(candidates.tokens, dtype=torch.float32)

    def select(self, ranked: Ranked, quota: int | None, generator: Generator) -> Tensor:
        """`quota` indices by the row's own uniforms, suppressed positions after all others."""
        size = len(ranked.order_n)
        uniforms_n = torch.rand(size, generator=generator, dtype=torch.float64)
        keys_n = ranked.certainty_n.double() + uniforms_n
        return torch.sort(keys_n, descending=True, stable=True).indices[:quota]


STRATEGY = Random
