"""The records that the embedded tasks are made of. Knows nothing about any one task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One question with one right answer (there may be others)."""

    id: str
    """Task name and a hash of the prompt: the same prompt has the same id under every seed."""
    task: str
    prompt: str
    """The user's turn."""
    answer: str
    """One right answer in the form that the model learns."""
    reference: str
    """What the checker needs, as JSON text or a number."""
    split: str


@dataclass(frozen=True)
class Program:
    """Python source that exits 0 exactly when the response is right. Untrusted: sandbox only."""

    source: str


@dataclass(frozen=True)
class Draft:
    """A problem before it is known to which split it belongs.

    Args:
        key: The problem without its wording; decides the split.
        prompt: The user's turn.
        answer: One right answer.
        reference: Makes the reference; called only for drafts that are kept, since it may be slow.
    """

    key: str
    prompt: str
    answer: str
    reference: Callable[[], str]
