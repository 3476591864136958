"""`tabom data pull`: fetch benchmark data for machines without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tabom_cli import console


def pull(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder to fill, for --data-dir later.")
    ],
    tasks: Annotated[
        list[str] | None, typer.Argument(metavar="[TASK]...", help="Tasks; default: all.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Fetch files that exist already.")] = False,
) -> None:
    """Fetch the data of evaluation tasks from the Hub into a folder.

    Needs a network; `tabom eval --data-dir DIR` then needs none. GPQA's terms must be accepted on the
    Hub first.

    Example: tabom data pull data/benchmarks gsm8k_cot ifeval
    """
    from tabom_cli.core.evaluation.pull import pull as fetch

    with console.progress_display() as progress:
        files = fetch(directory, tasks or (), again=again, progress=progress)
    rows = [(item.path, item.num_rows, "fetched" if item.is_new else "kept") for item in files]
    console.table(("file", "rows", "state"), rows)
    console.result(str(directory))
