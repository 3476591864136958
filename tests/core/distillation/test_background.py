"""Work in threads: what goes on meanwhile, how much of it, and how it stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tabom_cli.core.distillation.background import in_background


def test_items_go_on_while_one_of_them_hangs() -> None:
    last_was_read = threading.Event()

    def items() -> Iterator[int]:
        yield from range(5)
        last_was_read.set()

    def work(item: int) -> int:
        assert item or last_was_read.wait(60)
        return 10 * item

    found = list(in_background(items(), work, num_threads=2, capacity=8))
    assert found[-1] == (0, 0)
    assert sorted(found) == [(item, 10 * item) for item in range(5)]


def test_quick_work_keeps_the_order_of_the_items() -> None:
    found = in_background(range(50), lambda item: item, num_threads=4, capacity=8)
    assert [item for item, _ in found] == list(range(50))


@pytest.mark.parametrize(("num_threads", "capacity"), [(2, 2), (3, 5)])
def test_no_more_items_are_unfinished_than_agreed(num_threads: int, capacity: int) -> None:
    counts, unfinished, at_work = {"read": 0, "done": 0}, [], []
    full, slots = threading.Event(), threading.BoundedSemaphore(num_threads)

    def items() -> Iterator[int]:
        for item in range(20):
            counts["read"] += 1
            unfinished.append(counts["read"] - counts["done"])
            if counts["read"] == capacity:
                full.set()
            yield item

    def work(item: int) -> None:
        at_work.append(slots.acquire(blocking=False))
        assert full.wait(60)
        time.sleep(0.01)
        slots.release()

    for _ in in_background(items(), work, num_threads=num_threads, capacity=capacity):
        counts["done"] += 1
    assert counts == {"read": 20, "done": 20}
    assert max(unfinished) == capacity
    assert at_work == [True] * 20


def test_what_the_work_raises_is_raised_where_the_results_are_read() -> None:
    def work(item: int) -> int:
        if item == 2:
            raise ValueError("item 2")
        return item

    found = in_background(range(9), work, num_threads=1, capacity=4)
    assert [next(found), next(found)] == [(0, 0), (1, 1)]
    with pytest.raises(ValueError, match="item 2"):
        next(found)


def test_what_waits_is_not_begun_when_the_caller_stops() -> None:
    release, begun = threading.Event(), []
    known = set(threading.enumerate())

    def items() -> Iterator[int]:
        yield from range(3)
        raise KeyboardInterrupt

    def work(item: int) -> None:
        begun.append(item)
        release.wait(60)

    with pytest.raises(KeyboardInterrupt):
        list(in_background(items(), work, num_threads=1, capacity=4))
    (thread,) = set(threading.enumerate()) - known
    assert thread.daemon
    release.set()
    thread.join(60)
    assert not thread.is_alive()
    assert begun == [0]
