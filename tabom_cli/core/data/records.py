"""The trajectory record: one recorded decode, its stable ids and what follows from its order.

Knows the keys of a row; does not read or write files and knows no tensor.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from pydantic import Field

from tabom_cli.core.config import Section

SCHEMA_VERSION = 1
Verdict = Literal["correct", "wrong", "unparsable", "truncated", "timeout", "error", "unverified"]
Scope = Literal["content", "all"]
FAILED: frozenset[str] = frozenset({"wrong", "unparsable", "truncated", "timeout", "error"})
"""Verdicts of answers that did not pass their check."""


class Trajectory(Section):
    """A prompt, the model's answer and the order in which the answer was decoded."""

    schema_version: int = SCHEMA_VERSION
    """Version of the row format; absent in files of the original release."""
    id: str
    """Stable row id; resuming and training randomness are keyed by it."""
    group_id: str
    """Rows that answer the same prompt share it."""
    prompt: str
    """User text, without the chat template."""
    prompt_token_ids: list[int] | None = None
    """The rendered prompt that the model saw, assistant header included."""
    response: str
    """Answer text up to the first end token; empty when the file has none."""
    response_token_ids: list[int] | None = None
    """Response ids, end tokens and padding included."""
    decoding_order: list[int] | None = None
    """0-based forward pass that revealed response token i; -1 never."""
    decoding_entropy: list[float] | None = None
    """Raw entropy in nats (float32, temperature 1, no top-p) just before the reveal; -1 never."""
    non_ltr_positions: list[int] = Field(default_factory=list)
    """Response indices that were decoded before something on their left."""
    method: str | None = None
    """Decoder in the release's words: entropy, default, credit, or a strategy name."""
    data_source: str | None = None
    """Where the prompt comes from."""
    reference: str | None = None
    """Reference answer or tests."""
    verdict: Verdict | None = None
    """Outcome of the answer check; null when nobody looked."""
    reward: float | None = None
    """1 for a correct answer, 0 for any other verdict of a check; null without a check."""
    model: str | None = None
    """Model that answered, with its revision."""
    adapter: str | None = None
    """Adapter that was attached."""
    weights_hash: str | None = None
    """Hash of a sample of all weights, the adapter's included, and of their precision."""
    decode_hash: str | None = None
    """Hash of the decode settings that change results."""
    template_hash: str | None = None
    """Hash of the chat template that `prompt_token_ids` was rendered with."""
    seed: int | None = None
    """Seed of this row's own generator."""


def content_length(token_ids: Sequence[int], end_ids: Collection[int]) -> int:
    """Number of response tokens up to and including the first end id; all without one.

    Args:
        token_ids: Response ids.
        end_ids: Ids that end an answer (end of text, end of turn).
    """
    return next((i + 1 for i, token in enumerate(token_ids) if token in end_ids), len(token_ids))


def non_ltr_positions(
    decoding_order: Sequence[int], *, length: int | None = None, scope: Scope = "content"
) -> list[int]:
    """Indices r with `order[r] >= 0` for which some q < r has `order[q] > order[r]`.

    Args:
        decoding_order: Forward pass per response token, -1 never.
        length: Content tokens (`content_length`); later positions are left out of scope `content`,
            because end-of-text tails are decoded early and would flood the list.
        scope: `content` or `all` positions.

    Source: our definition; the release does not say how it made its own.
    """
    stop = len(decoding_order) if scope == "all" or length is None else length
    found, latest = [], -1
    for position, step in enumerate(decoding_order[:stop]):
        if 0 <= step < latest:
            found.append(position)
        latest = max(latest, step)
    return found


def acceptance(verdicts: Mapping[str, int]) -> float | None:
    """Share of `correct` among the judged rows; None when nothing was judged.

    Args:
        verdicts: Rows by verdict. `truncated` counts as judged, unless the file has `unverified` rows
            and no other verdict: then there was no check, and only the missing end was noticed.
    """
    judged = {kind: n for kind, n in verdicts.items() if n and kind not in ("unverified", "none")}
    if not judged or (judged.keys() == {"truncated"} and verdicts.get("unverified")):
        return None
    return judged.get("correct", 0) / sum(judged.values())


def stable_hash(*parts: object, length: int = 16) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of JSON-able parts."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:length]
