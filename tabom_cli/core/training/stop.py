"""A request to stop after the current step: from a signal, or because the time is up."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Why the run should stop, or None while it should go on.

    Args:
        max_time_s: Seconds from now after which the run stops; None for no limit.
    """

    def __init__(self, max_time_s: float | None = None) -> None:
        self._deadline = None if max_time_s is None else time.monotonic() + max_time_s
        self._signal: str | None = None

    @property
    def reason(self) -> str | None:
        """A phrase such as `SIGTERM`, None when nothing asked to stop."""
        if self._signal:
            return self._signal
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "--max-time"
        return None

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Turn SIGTERM and SIGINT into a request while the block runs; a second one stops at once."""

        def handle(number: int, frame: FrameType | None) -> None:
            if self._signal:
                raise KeyboardInterrupt
            self._signal = signal.Signals(number).name

        previous = {name: signal.signal(name, handle) for name in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for name, handler in previous.items():
                signal.signal(name, handler)
