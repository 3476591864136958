"""The embedded domain `arithmetic`: word problems of two to four steps."""

from __future__ import annotations

from tabom_cli.core.evaluation.tasks.tiny_task import tiny_task


def _number(response: str) -> str:
    from tabom_cli.assets.tasks.arithmetic import final_number

    number = final_number(response)
    return "" if number is None else str(number)


TASK = tiny_task("arithmetic", "word problems of two to four steps", extract=_number)
