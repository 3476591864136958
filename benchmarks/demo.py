"""The whole idea of TABOM on this machine, through the same commands that users type.

Distils a little, trains, evaluates the base and the result, and shows a table and a picture. Run it
with `make demo`; `--problems 2000` makes the committed table. Computes no score itself: it reads the
files that the commands wrote.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import date, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tabom_cli.core.diagnostics.plots import AccuracyCell, demo_figure
from tabom_cli.core.diagnostics.tds import Trace, aggregate
from tabom_cli.core.sandbox import why_unavailable

IN_DOMAIN = "countdown"
TASKS = (IN_DOMAIN, "arithmetic", "functions")
COMMITTED = Path(__file__).parent / "results" / "tiny.json"
console = Console(highlight=False, soft_wrap=True)
if console.width < 110:
    # A pipe has no width and Rich assumes 80 columns, which folds the table.
    console = Console(highlight=False, soft_wrap=True, width=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=120, help="problems per task and model")
    parser.add_argument("--output", type=Path, default=None, help="folder of this run")
    parser.add_argument(
        "--commit", action="store_true", help=f"replace table and picture in {COMMITTED.parent}"
    )
    arguments = parser.parse_args()
    started = time.monotonic()
    stamp = datetime.now().astimezone().strftime("%Y%m%d_%H%M%S")
    folder = arguments.output or Path("demo") / f"run_{stamp}"
    tasks = list(TASKS)
    reason = why_unavailable()
    if reason:
        tasks.remove("functions")
        console.print(
            f"The sandbox does not work here ({reason}): generated code is not run and the functions task is left out."
        )
    console.print(
        "A masked diffusion language model of 2.5 million parameters answers questions; its decoding\n"
        "order is recorded, verified answers train it with the ranking loss (TABOM), and the change is\n"
        f"measured on {arguments.problems} problems per task. Everything goes to {folder}/.\n"
    )
    rows = f"data.path={folder}/trajectories.jsonl"
    step("1. The model answers countdown problems; its decoding order is recorded and checked.")
    tabom("distill", "--recipe", "tiny", "--set", rows)
    step(
        "2. Verified answers train it. Beside the fresh ones: 2,823 rows distilled beforehand on a GPU."
    )
    output = tabom(
        "train",
        "--recipe",
        "tiny",
        "--set",
        rows,
        "--set",
        f"train.output_dir={folder}/checkpoints",
    )
    final = output.strip().splitlines()[-1]
    step("3. Base and result answer the same test problems.")
    common = ["--recipe", "tiny", "--tds", "--limit", str(arguments.problems)]
    results = {}
    for name, checkpoint in (("base", "tiny"), ("TABOM", final)):
        where = folder / f"eval_{name.lower()}"
        tabom("eval", checkpoint, *tasks, *common, "--output", str(where))
        results[name] = read(where, tasks)
    seconds = time.monotonic() - started
    measured = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/demo.py --problems {arguments.problems}",
        "device": device(),
        "seconds": round(seconds),
        "num_problems": arguments.problems,
        "results": results,
    }
    (folder / "demo.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    picture, drawing = demo_figure(cells(results, tasks), curves(folder, results), folder / "demo")
    console.print()
    show(measured, f"This run, {arguments.problems} problems per cell")
    console.print(
        f"{arguments.problems} problems per cell cannot separate the methods: look at the intervals.\n"
        if arguments.problems < 1000
        else ""
    )
    if arguments.commit:
        COMMITTED.parent.mkdir(exist_ok=True)
        COMMITTED.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        for file in (picture, drawing):
            shutil.copyfile(file, COMMITTED.with_suffix(file.suffix))
    elif COMMITTED.exists():
        committed = json.loads(COMMITTED.read_text(encoding="utf-8"))
        show(
            committed,
            f"Measured before with {committed['num_problems']:,} problems per cell ({committed['device']}, {committed['date']}, {committed['command']})",
        )
    console.print(f"Picture:   {picture}")
    console.print(f"Took:      {seconds / 60:.1f} minutes")
    console.print(f"Next:      {tabom_path()} tds tiny {final} --recipe tiny --output {folder}/tds")
    console.print(
        f"           {tabom_path()} recipes show tiny          (every setting of what you just ran)"
    )
    console.print(
        f"           {tabom_path()} train --recipe dream_prm12k --dry-run   (the same on Dream-7B)"
    )


def step(text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


def tabom(*arguments: str) -> str:
    """Run a command of tabom, show it, let its messages through and return what it printed."""
    console.print("$ tabom " + " ".join(arguments), style="dim")
    command = [sys.executable, "-m", "tabom_cli.main", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": str(min(os.cpu_count() or 1, 4))}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode:
        console.print(
            f"tabom {arguments[0]} ended with exit code {done.returncode}; the demo stops here."
        )
        sys.exit(done.returncode)
    return done.stdout


def tabom_path() -> str:
    """How the user types the command without activating anything."""
    script = Path(sys.executable).parent / "tabom"
    return os.path.relpath(script) if script.exists() else "tabom"


def read(folder: Path, tasks: list[str]) -> dict[str, Any]:
    """Accuracy with its interval and TDS of each task, from the files that `tabom eval` wrote."""
    scores = json.loads((folder / "results.json").read_text(encoding="utf-8"))["tasks"]
    values: dict[str, Any] = {}
    for task in tasks:
        entry = scores[task]
        traces = stored_traces(folder, task)
        values[task] = {
            "correct": entry["num_correct"],
            "total": entry["num_total"],
            "accuracy": entry["value"],
            "interval_95": entry["interval_95"],
            "tds": aggregate(traces).tds,
            "tds_final_eos": aggregate(traces, positions="final_eos").tds,
        }
    return values


def stored_traces(folder: Path, task: str) -> list[Trace]:
    """The entropy traces that were recorded while a task was answered."""
    lines = (folder / "completions.jsonl").read_text(encoding="utf-8").splitlines()
    records = (json.loads(line) for line in lines)
    return [Trace.from_json(r["tds"]) for r in records if r.get("task") == task and r.get("tds")]


def label(task: str) -> str:
    return f"{task} ({'in' if task == IN_DOMAIN else 'out of'} domain)"


def cells(results: dict[str, Any], tasks: list[str]) -> list[AccuracyCell]:
    return [
        AccuracyCell(label(task), name, v["accuracy"], *v["interval_95"], v["total"])
        for task in tasks
        for name, values in results.items()
        if (v := values[task])
    ]


def curves(folder: Path, results: dict[str, Any]) -> dict[str, Any]:
    return {
        name: aggregate(stored_traces(folder / f"eval_{name.lower()}", IN_DOMAIN))
        for name in results
    }


def show(measured: dict[str, Any], title: str) -> None:
    """The table: accuracy with 95 % interval and TDS, base against TABOM."""
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    names = list(measured["results"])
    for column in ("task", *names, "difference", *(f"TDS {name}" for name in names)):
        table.add_column(column, justify="left" if column == "task" else "right")
    first = names[0]
    for task in measured["results"][first]:
        values = [measured["results"][name][task] for name in names]
        difference = 100 * (values[1]["accuracy"] - values[0]["accuracy"])
        table.add_row(
            label(task),
            *(
                f"{100 * v['accuracy']:.1f} ({100 * v['interval_95'][0]:.1f} to {100 * v['interval_95'][1]:.1f})"
                for v in values
            ),
            f"{difference:+.1f}",
            *(f"{v['tds']:.3f}" for v in values),
        )
    console.print(table)
    console.print()


def device() -> str:
    """CPU or GPU name and the number of cores."""
    import platform

    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return f"CPU {platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
