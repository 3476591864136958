"""One Markdown page for a training run: what it was, how it went, how it scores.

Reads files only: the run folder and result folders of `tabom eval`. Knows neither models nor tasks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabom_cli.core.errors import DataError, RunError
from tabom_cli.core.evaluation import sweep
from tabom_cli.core.evaluation.paper import published_tables
from tabom_cli.core.evaluation.report import Table, results_table
from tabom_cli.core.evaluation.results import FILE_NAME as RESULTS
from tabom_cli.core.evaluation.results import read_results
from tabom_cli.core.files import write_text_atomic
from tabom_cli.core.rundir import RunDir

NUM_CURVE_ROWS = 12
_FIRST = ("step", "epoch", "loss", "lr", "grad_norm")
_KEPT_COLUMNS = 8


def find_results(run_folder: Path, places: Sequence[Path]) -> list[Path]:
    """Folders with a `results.json` about checkpoints of a run.

    Args:
        run_folder: The run; results inside it always count.
        places: Other folders to search, for results whose adapter or model lies in the run.
    """
    run = run_folder.resolve()
    found = [path.parent for path in sorted(run_folder.rglob(RESULTS))]
    for place in places:
        for path in sorted(place.rglob(RESULTS)) if place.is_dir() else ():
            try:
                entries = read_results(path)["tasks"].values()
            except DataError:
                continue
            names = [entry["adapter"] or entry["model"] for entry in entries]
            if any(Path(name).resolve().is_relative_to(run) for name in names):
                found.append(path.parent)
    return list(dict.fromkeys(found))


def write_report(run_folder: Path, path: Path, *, results: Sequence[Path] = ()) -> Path:
    """Write the report and, when there are metrics, its picture beside it.

    Args:
        run_folder: Made by `tabom train`.
        path: The Markdown file; the picture is `<stem>_curves.png`.
        results: Result folders to show.

    Returns:
        `path`.

    Raises:
        RunError: No run folder.
        DataError: Metrics or results that cannot be read.
    """
    run = RunDir(run_folder)
    if not run.manifest.is_file():
        raise RunError(f"{run_folder}: no manifest.json", "give the folder of a training run")
    rows = _metrics(run.metrics)
    parts = [_head(run)]
    if rows:
        picture = path.with_name(f"{path.stem}_curves.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_curves(rows, picture)
        tables = [table.markdown() for table in curve_tables(rows)]
        parts += ["## Training", f"![Training curves]({picture.name})", *tables]
    parts.append("## Evaluation")
    parts += [_evaluation(folder) for folder in results]
    sweeps = dict.fromkeys(folder.parent / sweep.FILE_NAME for folder in results)
    parts += [_sweep(file) for file in sweeps if file.is_file()]
    if not results:
        parts.append(f"Nothing was scored yet: `tabom eval {run_folder} TASK`.")
    if run.recipe.is_file():
        text = run.recipe.read_text(encoding="utf-8").rstrip()
        parts.append(f"## Recipe\n\n```yaml\n{text}\n```")
    write_text_atomic(path, "\n\n".join(part.strip() for part in parts) + "\n")
    return path


def curve_tables(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Training and validation values: some steps, evenly spread, first and last included."""
    validation = [row for row in rows if _is_validation(row)]
    training = [row for row in rows if not _is_validation(row)]
    shown = [("training, some steps", _spread(training)), ("validation, every epoch", validation)]
    tables = []
    for title, chosen in shown:
        if not chosen:
            continue
        names = dict.fromkeys(name for row in chosen for name in row)
        # A term is logged as a part of the loss and as a metric; once is enough here.
        names = {n: None for n in names if "/".join(_as_loss(n)) not in names}
        ordered = [name for name in _FIRST if name in names]
        columns = (ordered + [name for name in names if name not in ordered])[:_KEPT_COLUMNS]
        cells = tuple(tuple(_cell(row.get(name)) for name in columns) for row in chosen)
        tables.append(Table(title=title, columns=tuple(columns), rows=cells))
    return tables


def draw_curves(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the loss with its terms and the validation loss over steps, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    training = [row for row in rows if not _is_validation(row)]
    names = [name for name in (training or [{}])[0] if name == "loss" or name.startswith("loss_")]
    steps = [row["step"] for row in training]
    window = max(1, len(training) // 20)
    for number, name in enumerate(names):
        values = [row.get(name, float("nan")) for row in training]
        axes.plot(steps, values, color=f"C{number}", alpha=0.2, linewidth=0.7)
        label = f"{name}, mean of {window} lines" if window > 1 else name
        axes.plot(steps, _smooth(values, window), color=f"C{number}", label=label)
    validation = [row for row in rows if "validation/loss" in row]
    if validation:
        steps = [row["step"] for row in validation]
        values = [row["validation/loss"] for row in validation]
        axes.plot(steps, values, "ko--", markersize=4, label="validation/loss")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("nats per token")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=130)


def _smooth(values: Sequence[float], window: int) -> list[float]:
    """Mean of each value and those before it, `window` at most."""
    parts = (values[max(0, end - window) : end] for end in range(1, len(values) + 1))
    return [sum(part) / len(part) for part in parts]


def _head(run: RunDir) -> str:
    manifest = _json(run.manifest)
    epochs = ", ".join(path.name for path in run.epochs()) or "none"
    facts = {
        "state": "finished" if run.finished else "not finished",
        "saved epochs": epochs,
        "command": f"`{' '.join(manifest.get('command') or [])}`",
        "created": manifest.get("created"),
        "seed": manifest.get("seed"),
        "tabom": manifest.get("tabom"),
        "commit": manifest.get("git_commit"),
        "device": manifest.get("device") or manifest.get("devices"),
        "base model": manifest.get("model"),
        "revision": manifest.get("model_revision") or manifest.get("revision"),
        "packages": ", ".join(
            f"{name} {version}"
            for name, version in (manifest.get("packages") or {}).items()
            if version
        ),
    }
    known = tuple((name, str(value)) for name, value in facts.items() if value not in (None, ""))
    table = Table(title="what it was", columns=("what", "value"), rows=known)
    path = run.path.resolve()
    return f"# Run {path.parent.name}/{path.name}\n\n{table.markdown()}"


def _evaluation(folder: Path) -> str:
    results = read_results(folder)
    tables = [results_table(results), *published_tables(results)]
    return f"`{folder}`, {results['created']}\n\n" + "\n".join(t.markdown() for t in tables)


def _sweep(path: Path) -> str:
    folders = {name: Path(folder) for name, folder in _json(path)["checkpoints"].items()}
    return sweep.sweep_table(folders, title=f"epochs, {path.parent}").markdown()


def _metrics(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    if not path.is_file():
        return rows
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines[:-1], start=1):
        # What follows the last line break is being written.
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise DataError(f"{path}:{number}: no JSON: {error}") from error
    return rows


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: no JSON object")
    return value


def _as_loss(name: str) -> list[str]:
    *place, last = name.split("/")
    return [*place, f"loss_{last}"]


def _is_validation(row: Mapping[str, Any]) -> bool:
    return any(name.startswith("validation") for name in row)


def _spread(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    last = len(rows) - 1
    count = min(NUM_CURVE_ROWS, len(rows))
    places = {round(index * last / max(count - 1, 1)) for index in range(count)}
    return [rows[place] for place in sorted(places)]


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
