"""The embedded domain `countdown`: reach a target from given numbers, steps written out."""

from __future__ import annotations

from tabom_cli.core.evaluation.tasks.tiny_task import tiny_task


def _steps(response: str) -> str:
    from tabom_cli.assets.tasks.countdown import is_parsable

    return "".join(response.split()).rstrip(".") if is_parsable(response) else ""


TASK = tiny_task(
    "countdown", "reach a target from given numbers, steps written out", extract=_steps
)
