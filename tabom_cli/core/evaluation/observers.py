"""What evaluation wants from something that watches the decoding. Knows no observer."""

from __future__ import annotations

from typing import Any, Protocol


class StoredTrace(Protocol):
    """What an observer saw of one row."""

    def as_json(self) -> dict[str, Any]:
        """Plain values for the completions file."""
        ...


class TracingObserver(Protocol):
    """A decoding observer that can hand out what it saw of one row, by request id."""

    def before_reveal(self, view: Any) -> None:
        """Called before tokens are revealed."""
        ...

    def after_reveal(self, view: Any) -> None:
        """Called after tokens were revealed."""
        ...

    def trace(self, request_id: str) -> StoredTrace:
        """What was seen of a finished row, and forget it."""
        ...
