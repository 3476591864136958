"""The only batch assembler: fills the batch with waiting requests as soon as rows finish.

Distillation, evaluation and rollouts decode through `decode`. Knows requests by their length; does not
know where prompts come from or what becomes of the answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import islice

from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.decoding.records import DecodeRequest, DecodeResult, Observer
from tabom_cli.core.decoding.row import Row
from tabom_cli.core.decoding.sampler import Denoiser
from tabom_cli.core.models.base import Policy
from tabom_cli.core.progress import ProgressCallback, ProgressEvent, silent

__all__ = ["DecodeRequest", "DecodeResult", "Observer", "decode"]

LOOK_AHEAD_BATCHES = 8
"""Requests read ahead of the batch, in batches: enough to find neighbours of similar length."""


def decode(
    model: Policy,
    requests: Iterable[DecodeRequest],
    config: DecodeConfig,
    *,
    observer: Observer | None = None,
    look_ahead: int | None = None,
    progress: ProgressCallback = silent,
) -> Iterator[DecodeResult]:
    """Decode all requests and yield each answer as soon as it is finished.

    `config.batch_size` rows run together; a finished row is replaced at once by a waiting one of similar
    length. Answers do not depend on batch size, batch mates or the order of requests (up to the
    floating point of the model's own kernels); only the order of the results does.

    Args:
        model: The policy in evaluation mode; its `device` is used when it has one, else the CPU.
        requests: May be produced lazily; at most `LOOK_AHEAD_BATCHES` batches are read ahead.
        config: The decode settings.
        observer: Sees every step of every row.
        look_ahead: Requests read ahead of the batch, at least 1; None reads `LOOK_AHEAD_BATCHES`. Few
            are right where processes share one queue.
        progress: Called once per finished row (task "decode").

    Raises:
        RecipeError: At once, when the strategy or its options are wrong.
        DataError: A prompt without tokens.
        RunError: Logits that are not finite; names the request.
    """
    denoiser = Denoiser(model, config, observer=observer)
    total = len(requests) if isinstance(requests, Sized) else None
    waiting = _WaitingRoom(requests, config.batch_size, look_ahead)
    return _run(denoiser, waiting, total, progress)


def _run(
    denoiser: Denoiser, waiting: _WaitingRoom, total: int | None, progress: ProgressCallback
) -> Iterator[DecodeResult]:
    rows: list[Row] = []
    num_done = num_forwards = num_tokens = 0
    while True:
        while len(rows) < waiting.batch_size:
            longest = max((len(row.prompt_P) for row in rows), default=None)
            request = waiting.take(longest)
            if request is None:
                break
            rows.append(denoiser.admit(request))
        if not rows:
            return
        denoiser.step(rows)
        finished = [row.result() for row in rows if row.finished]
        rows = [row for row in rows if not row.finished]
        for result in finished:
            num_done += 1
            num_forwards += result.num_forwards
            num_tokens += len(result.response_token_ids)
            info = {"forwards_per_token": num_forwards / num_tokens}
            progress(ProgressEvent(task="decode", done=num_done, total=total, info=info))
            yield result


@dataclass(frozen=True)
class _Waiting:
    """A request with the turn at which it must be taken at the latest."""

    request: DecodeRequest
    deadline: int


class _WaitingRoom:
    """A bounded window over the requests that hands out the one that fits the running batch best."""

    def __init__(
        self, requests: Iterable[DecodeRequest], batch_size: int, capacity: int | None = None
    ) -> None:
        self.batch_size = batch_size
        self._source = iter(requests)
        self._capacity = capacity or batch_size * LOOK_AHEAD_BATCHES
        self._window: list[_Waiting] = []
        self._num_taken = 0

    def take(self, longest_prompt: int | None) -> DecodeRequest | None:
        """The next request: the longest that adds no padding, else the one that adds the least.

        A request that was passed over for two windows goes first, so none waits for ever.

        Args:
            longest_prompt: Prompt tokens of the longest running row; None when nothing runs.
        """
        missing = self._capacity - len(self._window)
        deadline = self._num_taken + 2 * self._capacity
        self._window += [_Waiting(request, deadline) for request in islice(self._source, missing)]
        if not self._window:
            return None
        best = 0
        if self._window[0].deadline > self._num_taken:
            costs = [_cost(entry.request, longest_prompt) for entry in self._window]
            best = min(range(len(costs)), key=costs.__getitem__)
        self._num_taken += 1
        return self._window.pop(best).request


def _cost(request: DecodeRequest, longest_prompt: int | None) -> tuple[bool, int]:
    """Sorting key: whether the batch would widen, then the padding that somebody gets."""
    length = len(request.prompt_token_ids)
    if longest_prompt is None:
        return (False, -length)
    return (length > longest_prompt, abs(length - longest_prompt))
