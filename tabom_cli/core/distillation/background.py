"""Work on items in threads while their source goes on, and no more of them at a time than agreed.

Knows items and a function; no model, no row and no answer check.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

GRACE_S = 0.02
"""How long an item is waited for before the next is asked for: most end at once and keep their place."""


def in_background(
    items: Iterable[Item], work: Callable[[Item], Result], *, num_threads: int, capacity: int
) -> Iterator[tuple[Item, Result]]:
    """(item, work(item)) as the work ends, which need not be the order of the items.

    An item is handed over as soon as the next one is there, or after `GRACE_S`; `items` rests while
    `capacity` of them are unfinished. When the caller stops, what has not begun is not begun; the threads
    are daemons, so that work that hangs cannot hold up the end of the program.

    Args:
        items: Read in the caller's thread, one at a time.
        work: Called in a thread; what it raises is raised here.
        num_threads: Calls of `work` at a time.
        capacity: Unfinished items at most, waiting and worked on.
    """
    todo: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[Item, Result | BaseException]] = queue.SimpleQueue()
    stop = threading.Event()

    def serve() -> None:
        while (item := todo.get()) is not None and not stop.is_set():
            try:
                ended.put((item, work(item)))
            except BaseException as error:  # raised again where the results are read
                ended.put((item, error))

    for _ in range(num_threads):
        threading.Thread(target=serve, name="background", daemon=True).start()
    num_unfinished = 0
    try:
        for item in items:
            todo.put(item)
            num_unfinished += 1
            timeout: float | None = GRACE_S
            while num_unfinished:
                try:
                    found = ended.get(timeout=None if num_unfinished >= capacity else timeout)
                except queue.Empty:
                    break
                num_unfinished -= 1
                timeout = 0.0
                yield _unless_raised(*found)
        for _ in range(num_unfinished):
            yield _unless_raised(*ended.get())
    finally:
        stop.set()
        for _ in range(num_threads):
            todo.put(None)


def _unless_raised(item: Item, result: Result | BaseException) -> tuple[Item, Result]:
    if isinstance(result, BaseException):
        raise result
    return item, result
