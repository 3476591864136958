"""What a terminal is given: text of models and files can show itself, never act."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tabom_cli import console
from tabom_cli.commands.data import app

HOSTILE = "a\x1b[2J\x07\x9b31m\x7f\rb\tc\n\ud800d"
SHOWN = r"a\x1b[2J\x07\x9b31m\x7f\rb" + "\tc\n" + r"\ud800d"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What both streams show, on a terminal without colours."""
    out = io.StringIO()
    for name in ("_stdout", "_stderr"):
        shown = Console(file=out, force_terminal=True, color_system=None, soft_wrap=True)
        monkeypatch.setattr(console, name, shown)
    return out


@pytest.mark.parametrize(
    "show",
    [
        console.result,
        console.raw,
        console.note,
        console.warn,
        console.heading,
        lambda text: console.error(text, text),
        lambda text: console.check("pass", text, text, text),
        lambda text: console.coloured([(text, None), (text, (0, 0, 0))]),
        lambda text: console.table(("column",), [(text,)], title=text),
    ],
)
def test_control_characters_are_shown_and_not_sent(
    show: Callable[[str], None], screen: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    show(HOSTILE)
    text = screen.getvalue() + capsys.readouterr().out
    assert r"\x1b[2J\x07\x9b31m\x7f\rb" in text
    assert not set(text) & set("\x1b\x07\x9b\x7f\r\ud800")


def test_visible_text_keeps_lines_and_tabs() -> None:
    assert console.visible(HOSTILE) == SHOWN
    assert console.visible("caf\u00e9\t\u6f22\n") == "caf\u00e9\t\u6f22\n"


def test_raw_text_reaches_a_pipe_unchanged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_stdout", Console(file=io.StringIO()))
    console.raw("a\x1b[2J")
    assert capsys.readouterr().out == "a\x1b[2J\n"


def test_inspect_shows_a_hostile_row_as_text(tmp_path: Path) -> None:
    row = {"prompt": f"p{HOSTILE}", "response": "r\x1b]0;title\x07", "decoding_order": []}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    outcome = CliRunner().invoke(app, ["inspect", str(path)])
    assert outcome.exception is None, outcome.output
    assert r"prompt: pa\x1b[2J\x07" in outcome.output
    assert r"answer: r\x1b]0;title\x07" in outcome.output
    assert "\x1b" not in outcome.output
