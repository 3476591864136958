"""The settings of the Trajectory Discrimination Score. Imports no tensor library."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tabom_cli.core.config import Section
from tabom_cli.core.decoding.config import DecodeConfig


class TdsConfig(Section):
    """Which decodes are measured, and over which positions."""

    task: str | None = None
    """Task whose prompts are decoded; null uses the first evaluation task."""
    num_prompts: int = Field(64, ge=1)
    """Prompts per checkpoint."""
    positions: Literal["visible_eos", "final_eos", "all"] = "visible_eos"
    """Masked positions that count: before the leftmost EOS visible at that step (release), before
    the first EOS of the finished response (paper), or all."""
    bins: int = Field(50, ge=2)
    """Bins of normalised progress in the curve."""
    decode: DecodeConfig | None = None
    """How prompts are decoded; null uses `eval.decode`."""
