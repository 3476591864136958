from __future__ import annotations

import dataclasses

import pytest

from tabom_cli.core.progress import ProgressEvent, silent


def test_an_event_is_frozen_and_its_defaults_say_nothing() -> None:
    event = ProgressEvent()
    assert (event.kind, event.task, event.done, event.total, event.text) == (
        "progress",
        "",
        0,
        None,
        "",
    )
    assert event.info == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.done = 1  # type: ignore[misc]


def test_events_do_not_share_their_figures() -> None:
    first, second = ProgressEvent(), ProgressEvent()
    assert first.info is not second.info


def test_the_default_callback_ignores_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    assert silent(ProgressEvent(kind="warning", text="nothing to see")) is None
    assert capsys.readouterr() == ("", "")
