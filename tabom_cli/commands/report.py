"""`tabom report`: one Markdown page for a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tabom_cli import console


def report(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a training run.")],
    results: Annotated[
        list[Path] | None,
        typer.Option(
            "--results", metavar="DIR", help="Result folder to show; default: all about the run."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: report.md in the run folder.")
    ] = None,
) -> None:
    """Write a Markdown report of a run: recipe, training curves, scores beside the paper's.

    Scores come from the run folder and from output/eval.

    Example: tabom report checkpoints/tiny/train_20260101_120000
    """
    from tabom_cli.core.evaluation.job import OUTPUT_DIR
    from tabom_cli.core.evaluation.run_report import find_results, write_report

    folders = results or find_results(run_dir, [OUTPUT_DIR])
    path = write_report(run_dir, output or run_dir / "report.md", results=folders)
    console.note(f"{len(folders)} result folders shown")
    console.result(str(path))
