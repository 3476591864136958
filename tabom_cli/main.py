"""The command line: registers the commands and turns `TabomError` into one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

from tabom_cli import __version__, console
from tabom_cli.commands import (
    data,
    data_pull,
    distill,
    doctor,
    evaluate,
    export,
    generate,
    recipes,
    rename_checkpoints,
    report,
    tds,
    train,
)
from tabom_cli.core import errors, launch

app = typer.Typer(
    name="tabom",
    help="Trajectory-aligned post-training of masked diffusion language models.",
    epilog="A first run, on any machine: tabom distill --recipe tiny && tabom train --recipe tiny",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        console.result(f"tabom {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if debug:
        os.environ["TABOM_DEBUG"] = "1"


app.command("distill")(distill.distill)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("tds")(tds.tds)
app.command("report")(report.report)
app.command("generate")(generate.generate)
app.command("export")(export.export)
app.command("doctor")(doctor.doctor)
app.command("rename-checkpoints")(rename_checkpoints.rename_checkpoints)
data.app.command("pull")(data_pull.pull)
app.add_typer(data.app, name="data")
app.add_typer(recipes.app, name="recipes")


def run() -> None:
    """Entry point of the `tabom` script."""
    # Waiting OpenMP threads spin by default: on two cores beside another busy process that made the
    # embedded model seven times slower. Read when torch is imported, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    code = errors.EXIT_OK
    try:
        app()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        # Typer ends a command that Ctrl-C stopped without a word.
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):
            console.error("interrupted")
    except errors.TabomError as error:
        if os.environ.get("TABOM_DEBUG"):
            traceback.print_exc()
        console.error(error.message, error.hint)
        code = error.exit_code
    launch.leave(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
