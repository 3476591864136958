"""One recorded decode as a JSON line. (Fields only; the loader is written beside this.)"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tabom_cli.core.config import Section

SCHEMA_VERSION = 1
Verdict = Literal["correct", "wrong", "unparsable", "truncated", "timeout", "error", "unverified"]


class Trajectory(Section):
    """A prompt, the model's answer and the order in which the answer was decoded."""

    schema_version: int = SCHEMA_VERSION
    id: str
    group_id: str
    prompt: str
    prompt_token_ids: list[int] | None = None
    response: str
    response_token_ids: list[int] | None = None
    decoding_order: list[int] | None = None
    """0-based forward pass that revealed response token i; -1 never."""
    decoding_entropy: list[float] | None = None
    """Raw entropy in nats (float32, temperature 1, no top-p) just before the reveal; -1 never."""
    non_ltr_positions: list[int] = Field(default_factory=list)
    method: str | None = None
    data_source: str | None = None
    reference: str | None = None
    verdict: Verdict | None = None
    reward: float | None = None
    model: str | None = None
    adapter: str | None = None
    decode_hash: str | None = None
    template_hash: str | None = None
    seed: int | None = None
