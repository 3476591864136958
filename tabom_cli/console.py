"""What a person sees: tables on stdout, everything else on stderr, and only from rank zero.

Computes nothing. The core reports through `ProgressEvent`; `progress_display` shows those.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tabom_cli.core.progress import ProgressCallback, ProgressEvent

PLAIN_INTERVAL_S = 5.0
"""Seconds between progress lines when there is no terminal."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

_stdout = Console(soft_wrap=True, highlight=False)
_stderr = Console(stderr=True, soft_wrap=True, highlight=False)


def visible(text: str) -> str:
    r"""Text that a terminal only shows: control characters become `\x1b` and the like.

    Answers and prompts may hold escape sequences that move the cursor, and halves of characters that
    cannot be written. Newlines and tabs stay.
    """
    return _CONTROL.sub(lambda match: ascii(match.group())[1:-1], text)


def speaks() -> bool:
    """Whether this process may write: only rank zero of a distributed run does."""
    return os.environ.get("RANK", "0") == "0"


def is_terminal() -> bool:
    """Whether results go to a terminal, where they may be drawn and redrawn."""
    return speaks() and _stdout.is_terminal


def drawing() -> Console:
    """A console on stdout for displays that draw themselves.

    Folds long lines: on a console that leaves them to the terminal, a live display crops them.
    """
    return Console(highlight=False)


def result(text: str) -> None:
    """One line of result, on stdout."""
    if speaks():
        _stdout.print(Text(visible(text)))


def result_json(value: Any) -> None:
    """A value as JSON, on stdout."""
    if speaks():
        raw(json.dumps(value, indent=2, ensure_ascii=False))


def raw(text: str) -> None:
    """Text on stdout exactly as it is, for files that are shown; a terminal gets it `visible`."""
    if speaks():
        text = visible(text) if _stdout.is_terminal else text
        sys.stdout.write(text if text.endswith("\n") else text + "\n")


def note(text: str) -> None:
    """A line for the person, on stderr."""
    if speaks():
        _stderr.print(Text(visible(text)))


def warn(text: str) -> None:
    """A warning, on stderr."""
    if speaks():
        _stderr.print(Text("Warning: ", style="yellow") + Text(visible(text)))


def error(message: str, hint: str | None = None) -> None:
    """The lines that end a failed command, on stderr; every rank may speak here."""
    _stderr.print(Text("Error: ", style="bold red") + Text(visible(message)))
    if hint:
        _stderr.print(Text("Hint: ", style="cyan") + Text(visible(hint)))


_STATUS_STYLES = {"pass": "green", "warning": "yellow", "fail": "bold red"}


def check(status: str, name: str, detail: str, fix: str | None = None) -> None:
    """One line of a readiness report, on stdout: status, what, finding, and what helps."""
    if not speaks():
        return
    line = Text(f"{status:8}", style=_STATUS_STYLES[status]) + Text(visible(f"{name:19} {detail}"))
    if fix:
        line += Text("  -> ", style="cyan") + Text(visible(fix))
    _stdout.print(line)


def heading(text: str) -> None:
    """A line that starts a part of the result, on stdout."""
    if speaks():
        _stdout.print(Text(visible(text), style="bold"))


def coloured(pieces: Sequence[tuple[str, tuple[int, int, int] | None]]) -> None:
    """Pieces of text behind one another on stdout, each on its own background (red, green, blue)."""
    if not speaks():
        return
    line = Text()
    for piece, colour in pieces:
        if colour is None:
            line.append(visible(piece), style="dim")
        else:
            dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 128
            ink = "white" if dark else "black"
            line.append(visible(piece), style=f"{ink} on rgb({colour[0]},{colour[1]},{colour[2]})")
    _stdout.print(line)


def shows_colours() -> bool:
    """Whether stdout is a terminal that shows colours."""
    return _stdout.is_terminal and not _stdout.no_color


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """A table of results, on stdout; columns of numbers are aligned right."""
    if not speaks():
        return
    if title:
        # Not the table's own title, which Rich folds to the width of a narrow table.
        result(title)
    shown = Table(show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        numeric = rows and all(_numeric(row[index]) for row in rows)
        shown.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text("" if cell is None else visible(str(cell))) for cell in row))
    if _stdout.is_terminal:
        _stdout.print(shown)
    else:
        # Off a terminal Rich assumes 80 columns; a file has no width, so rows must not fold.
        Console(file=sys.stdout, width=400, highlight=False).print(shown)


@contextmanager
def progress_display() -> Iterator[ProgressCallback]:
    """A callback that shows progress events: bars on a terminal, a line every few seconds elsewhere."""
    if not speaks():
        yield lambda event: None
    elif _stderr.is_terminal:
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[info]}"),
        )
        with Progress(*columns, console=_stderr) as bars:
            yield _BarDisplay(bars)
    else:
        yield _LineDisplay()


class _BarDisplay:
    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.tasks: dict[str, Any] = {}

    def __call__(self, event: ProgressEvent) -> None:
        if event.kind != "progress":
            (warn if event.kind == "warning" else note)(event.text)
            return
        info = _info(event.info)
        if event.task not in self.tasks:
            self.tasks[event.task] = self.bars.add_task(event.task, total=event.total, info=info)
        self.bars.update(self.tasks[event.task], completed=event.done, total=event.total, info=info)


class _LineDisplay:
    def __init__(self) -> None:
        self.last: dict[str, float] = {}
        self.first: dict[tuple[str, int], tuple[float, int]] = {}

    def __call__(self, event: ProgressEvent) -> None:
        if event.kind != "progress":
            (warn if event.kind == "warning" else note)(event.text)
            return
        now = time.monotonic()
        final = event.total is not None and event.done >= event.total
        if not final and now - self.last.get(event.task, -PLAIN_INTERVAL_S) < PLAIN_INTERVAL_S:
            return
        self.last[event.task] = now
        total = "" if event.total is None else f"/{event.total}"
        left = "" if final else self._left(event, now)
        note(f"{event.task} {event.done}{total} {_info(event.info)}".rstrip() + left)

    def _left(self, event: ProgressEvent, now: float) -> str:
        """The time left at the rate since the first line, which itself knows no rate."""
        if event.total is None:
            return ""
        began, first = self.first.setdefault((event.task, event.total), (now, event.done))
        if event.done <= first:
            return ""
        left_s = round((now - began) / (event.done - first) * (event.total - event.done))
        return f"  {datetime.timedelta(seconds=left_s)} left"


def _info(info: Mapping[str, float | str]) -> str:
    parts = (
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in info.items()
    )
    return "  ".join(parts)


def _numeric(value: Any) -> bool:
    text = str(value).strip().rstrip("%")
    try:
        float(text)
    except ValueError:
        return text in {"", "-"}
    return True
