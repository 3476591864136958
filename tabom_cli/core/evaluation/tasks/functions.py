"""The embedded domain `functions`: small Python functions, run in the sandbox."""

from __future__ import annotations

from tabom_cli.core.evaluation.tasks.tiny_task import tiny_task

TASK = tiny_task(
    "functions",
    "small Python functions, run in the sandbox",
    executes_code=True,
)
