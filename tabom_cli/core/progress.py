"""How the core reports progress: one event type and one callback. Knows nothing about terminals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class ProgressEvent:
    """One thing worth showing while a long call runs.

    Attributes:
        kind: `progress` moves a bar, `message` and `warning` are lines of text.
        task: Which bar, in words a user understands ("distill", "train").
        done: Units finished so far.
        total: Units in all, None when unknown.
        text: The line for `message` and `warning`.
        info: Figures shown beside the bar (name to value).
    """

    kind: Literal["progress", "message", "warning"] = "progress"
    task: str = ""
    done: int = 0
    total: int | None = None
    text: str = ""
    info: Mapping[str, float | str] = field(default_factory=dict)


ProgressCallback = Callable[[ProgressEvent], None]


def silent(event: ProgressEvent) -> None:
    """Ignore an event; the default callback."""
