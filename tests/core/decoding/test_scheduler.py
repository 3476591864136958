"""Continuous batching: results, refills, look-ahead and progress."""

from __future__ import annotations

from collections.abc import Iterator

from decoding_toys import requests, toy

from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.decoding.records import DecodeRequest
from tabom_cli.core.decoding.scheduler import LOOK_AHEAD_BATCHES, _WaitingRoom, decode
from tabom_cli.core.progress import ProgressEvent

THRESHOLD = DecodeConfig(steps=12, max_new_tokens=12, threshold=0.55, batch_size=4)


def test_a_finished_row_is_replaced_at_once() -> None:
    """With rows of unequal step counts the batch stays full until nothing waits."""
    policy = toy(12, seed=6)
    results = list(decode(policy, requests([4] * 20), THRESHOLD))
    assert len({result.num_steps for result in results}) > 2
    sizes = [batch for batch, _ in policy.widths]
    first_short = next(index for index, size in enumerate(sizes) if size < 4)
    assert sizes[:first_short] == [4] * first_short
    assert sorted(sizes[first_short:], reverse=True) == sizes[first_short:]
    assert sum(sizes) == sum(result.num_forwards for result in results)


def test_it_needs_fewer_forward_passes_than_fixed_batches() -> None:
    rows = requests([4] * 20)
    running, fixed = toy(12, seed=6), toy(12, seed=6)
    list(decode(running, rows, THRESHOLD))
    for start in range(0, 20, 4):
        list(decode(fixed, rows[start : start + 4], THRESHOLD))
    assert running.num_forwards < fixed.num_forwards


def test_requests_are_read_lazily_and_not_far_ahead() -> None:
    taken = 0

    def endless() -> Iterator[DecodeRequest]:
        nonlocal taken
        while True:
            taken += 1
            yield DecodeRequest(f"e{taken}", (1, 2), taken)

    results = decode(toy(12), endless(), THRESHOLD)
    assert taken == 0
    next(results)
    assert taken <= 4 * (LOOK_AHEAD_BATCHES + 1)


def test_rows_of_similar_length_run_together() -> None:
    policy = toy(12)
    settings = DecodeConfig(steps=12, max_new_tokens=12, batch_size=2)
    results = list(decode(policy, requests([3, 30, 3, 30, 3, 30]), settings))
    assert len(results) == 6
    padded = sum(batch * width for batch, width in policy.widths)
    exact = sum((length + 12) * 11 for length in (3, 30, 3, 30, 3, 30))
    assert padded <= exact + 27 * 11


def test_a_long_prompt_does_not_wait_for_ever() -> None:
    def stream() -> Iterator[DecodeRequest]:
        yield DecodeRequest("short0", (1,), 0)
        yield DecodeRequest("long", (1,) * 50, 0)
        for index in range(10_000):
            yield DecodeRequest(f"short{index + 1}", (1,), 0)

    room = _WaitingRoom(stream(), batch_size=2)
    order = []
    while "long" not in order:
        request = room.take(1)
        assert request is not None
        order.append(request.id)
    assert 1 < len(order) <= 2 * 2 * LOOK_AHEAD_BATCHES + 1


def test_progress_counts_finished_rows() -> None:
    events: list[ProgressEvent] = []
    list(decode(toy(12), requests([2, 3, 4]), THRESHOLD, progress=events.append))
    assert [(event.done, event.total, event.task) for event in events] == [
        (1, 3, "decode"),
        (2, 3, "decode"),
        (3, 3, "decode"),
    ]
    assert 0 < float(events[-1].info["forwards_per_token"]) <= 1


def test_no_requests_give_no_results() -> None:
    assert list(decode(toy(12), [], THRESHOLD)) == []
