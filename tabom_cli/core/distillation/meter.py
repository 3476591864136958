"""Counts and rates of a running distillation. Knows rows and a clock, no model and no file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabom_cli.core.data.records import acceptance
from tabom_cli.core.distillation.queue import Totals
from tabom_cli.core.progress import ProgressEvent


@dataclass(frozen=True)
class DistillReport:
    """What a finished distillation made.

    Attributes:
        output: The file.
        num_rows: Rows in it.
        num_made: Rows that this process made in this call.
        verdicts: Rows by verdict.
        time_s: Seconds from the first request to the last row.
        rows_per_s: Rows of all processes per second.
        tokens_per_s: Answer tokens of all processes (first end token included, padding not) per second.
        forwards_per_token: Forward passes that the rows needed per answer token.
    """

    output: Path
    num_rows: int
    num_made: int
    verdicts: Mapping[str, int]
    time_s: float
    rows_per_s: float
    tokens_per_s: float
    forwards_per_token: float

    @property
    def acceptance(self) -> float | None:
        """Share of correct rows among those that were judged; None when none was."""
        return acceptance(self.verdicts)

    def as_dict(self) -> dict[str, Any]:
        """The figures for a manifest, without the path."""
        return {
            "num_rows": self.num_rows,
            "verdicts": dict(self.verdicts),
            "acceptance": self.acceptance,
            "last_call": {
                "num_made": self.num_made,
                "time_s": round(self.time_s, 3),
                "rows_per_s": round(self.rows_per_s, 3),
                "tokens_per_s": round(self.tokens_per_s, 3),
                "forwards_per_token": round(self.forwards_per_token, 4),
            },
        }


class Meter:
    """Turns the totals of a call into rates.

    Args:
        num_total: Rows that are to be in the file.
        num_done: Rows of earlier calls.
    """

    def __init__(self, *, num_total: int, num_done: int) -> None:
        self.num_total = num_total
        self.num_done = num_done
        self.num_own = 0
        self.totals = Totals()
        self._start = time.monotonic()

    def add(self, totals: Totals) -> None:
        """Note a finished row of this process and the totals of all processes after it."""
        self.num_own += 1
        self.totals = totals

    def event(self, task: str) -> ProgressEvent:
        """The figures now, with the seconds left at the mean pace."""
        report = self.report(Path(), verdicts=self.totals.verdicts, num_rows=0)
        info: dict[str, float | str] = {
            "rows_per_s": report.rows_per_s,
            "tokens_per_s": report.tokens_per_s,
            "forwards_per_token": report.forwards_per_token,
        }
        if report.acceptance is not None:
            info["accepted"] = report.acceptance
        if report.rows_per_s:
            left = self.num_total - self.num_done - self.totals.rows
            info["left_s"] = left / report.rows_per_s
        done = self.num_done + self.totals.rows
        return ProgressEvent(task=task, done=done, total=self.num_total, info=info)

    def report(self, output: Path, *, verdicts: Mapping[str, int], num_rows: int) -> DistillReport:
        """The figures of all processes beside the counts of a file."""
        time_s = time.monotonic() - self._start
        return DistillReport(
            output=output,
            num_rows=num_rows,
            num_made=self.num_own,
            verdicts=dict(verdicts),
            time_s=time_s,
            rows_per_s=self.totals.rows / time_s if time_s else 0.0,
            tokens_per_s=self.totals.tokens / time_s if time_s else 0.0,
            forwards_per_token=self.totals.forwards / max(1, self.totals.tokens),
        )
