"""The embedded domain `arithmetic`: word problems of two to four steps."""

from __future__ import annotations

from tabom_cli.core.evaluation.tasks.tiny_task import tiny_task

TASK = tiny_task("arithmetic", "word problems of two to four steps")
