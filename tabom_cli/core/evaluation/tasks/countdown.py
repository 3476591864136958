"""The embedded domain `countdown`: reach a target from given numbers, steps written out."""

from __future__ import annotations

from tabom_cli.core.evaluation.tasks.tiny_task import tiny_task

TASK = tiny_task("countdown", "reach a target from given numbers, steps written out")
