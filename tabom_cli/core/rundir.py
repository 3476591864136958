"""Run folders: where a training run puts its files, and its manifest.

Knows no tensor, no recipe section and no command line: the caller passes names, hashes and text.
Safe files, folders and JSON lines (`core.files`, `core.jsonl`) can be imported from here too.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import tabom_cli
from tabom_cli.core.errors import RunError, UsageError
from tabom_cli.core.files import (
    atomic_folder,
    disk_free_check,
    exclusive_lock,
    file_sha256,
    free_bytes,
    os_errors,
    write_json_atomic,
    write_text_atomic,
)
from tabom_cli.core.jsonl import JsonlWriter, append_jsonl, truncate_jsonl

__all__ = [
    "JsonlWriter",
    "RunDir",
    "RunInfo",
    "append_jsonl",
    "atomic_folder",
    "disk_free_check",
    "exclusive_lock",
    "file_sha256",
    "find_runs",
    "free_bytes",
    "manifest",
    "new_run_dir",
    "truncate_jsonl",
    "write_json_atomic",
    "write_text_atomic",
]

_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "safetensors",
    "tokenizers",
    "numpy",
    "pydantic",
    "datasets",
    "lm-eval",
)


@dataclass(frozen=True)
class RunDir:
    """The names of everything inside one run folder.

    Attributes:
        path: `<output_dir>/<recipe>/train_<timestamp>`.
    """

    path: Path

    @property
    def metrics(self) -> Path:
        """One JSON line per logged optimizer step; equal for equal seeds."""
        return self.path / "metrics.jsonl"

    @property
    def timings(self) -> Path:
        """JSON lines with wall times, kept apart because they differ from run to run."""
        return self.path / "timings.jsonl"

    @property
    def recipe(self) -> Path:
        """The resolved recipe, itself runnable."""
        return self.path / "recipe.resolved.yaml"

    @property
    def manifest(self) -> Path:
        """Versions, seed, command line and recipe hash."""
        return self.path / "manifest.json"

    @property
    def final(self) -> Path:
        """The last adapter or model; it exists exactly when the run finished."""
        return self.path / "final"

    @property
    def lock(self) -> Path:
        """Lock file for `exclusive_lock`: one process writes into a run."""
        return self.path / ".lock"

    def epoch(self, number: int) -> Path:
        """The adapter after epoch `number`, counted from 1."""
        return self.path / f"epoch_{number}"

    def state(self, step: int) -> Path:
        """The resumable state after optimizer step `step`."""
        return self.path / "state" / f"step_{step}"

    def epochs(self) -> list[Path]:
        """Saved epochs in numeric order."""
        return _numbered(self.path, "epoch_")

    def states(self) -> list[Path]:
        """Saved states in order of their steps; the last one is the newest."""
        return _numbered(self.path / "state", "step_")

    @property
    def finished(self) -> bool:
        """Whether the run wrote its final model."""
        return self.final.is_dir()


@dataclass(frozen=True)
class RunInfo:
    """What `find_runs` can say about a run without loading it.

    Attributes:
        run: Its folder.
        finished: Whether `final/` exists.
        recipe_hash: From the manifest; None when the manifest is missing or unreadable.
        created: ISO time from the manifest, or "" without one.
        fault: Why the manifest could not be read, None when it could.
    """

    run: RunDir
    finished: bool
    recipe_hash: str | None
    created: str
    fault: str | None = None


def new_run_dir(output_dir: Path | str, recipe_name: str, timestamp: str | None = None) -> RunDir:
    """Create an empty `<output_dir>/<recipe_name>/train_<timestamp>`.

    Args:
        output_dir: Usually `checkpoints`.
        recipe_name: One path component.
        timestamp: Part after `train_`; None takes the local time, with a suffix when two runs
            start within one second.

    Raises:
        RunError: The folder of a given timestamp exists, or cannot be made.
        UsageError: The recipe name or timestamp is not one path component.
    """
    for what, name in (("recipe name", recipe_name), ("timestamp", timestamp or "now")):
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name):
            raise UsageError(
                f"{what} '{name}' cannot name a folder",
                hint="use letters, digits, underscore, dot, plus and minus",
            )
    parent = Path(output_dir) / recipe_name
    stem = timestamp or datetime.now().astimezone().strftime("%Y%m%d_%H%M%S")
    with os_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        attempt = 1
        while True:
            path = parent / (f"train_{stem}" if attempt == 1 else f"train_{stem}_{attempt}")
            try:
                path.mkdir()
            except FileExistsError:
                if timestamp is not None:
                    raise RunError(
                        f"{path} exists and is not overwritten",
                        hint="resume it with --resume or choose another timestamp",
                    ) from None
                attempt += 1
            else:
                return RunDir(path)


def find_runs(output_dir: Path | str, recipe_name: str) -> list[RunInfo]:
    """All runs of a recipe, newest first; empty when there are none."""
    parent = Path(output_dir) / recipe_name
    if not parent.is_dir():
        return []
    found = [_inspect(RunDir(path)) for path in parent.glob("train_*") if path.is_dir()]
    return sorted(found, key=lambda info: (_started(info), info.run.path.name), reverse=True)


def manifest(
    *,
    command: Sequence[str],
    recipe_hash: str | None = None,
    seed: int | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What is needed to know where a result came from, as a JSON-able mapping.

    Args:
        command: The command line, one item per argument.
        recipe_hash: Hash of the resolved recipe.
        seed: The run's seed.
        extra: More keys, for instance devices, model revision, data hashes.
    """
    return {
        "tabom": tabom_cli.__version__,
        "git_commit": _git_commit(Path(tabom_cli.__file__).parent.parent),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "command": list(command),
        "created": datetime.now(UTC).isoformat(),
        "seed": seed,
        "recipe_hash": recipe_hash,
        **(extra or {}),
    }


def _numbered(folder: Path, prefix: str) -> list[Path]:
    if not folder.is_dir():
        return []
    found = [
        (int(path.name[len(prefix) :]), path)
        for path in folder.glob(f"{prefix}*")
        if path.is_dir() and path.name[len(prefix) :].isdecimal()
    ]
    return [path for _, path in sorted(found)]


def _inspect(run: RunDir) -> RunInfo:
    try:
        value = json.loads(run.manifest.read_text(encoding="utf-8"))
        recipe_hash, created = value.get("recipe_hash"), str(value.get("created") or "")
    except (OSError, ValueError, AttributeError) as error:
        return RunInfo(run, run.finished, None, "", f"{run.manifest}: {error}")
    return RunInfo(run, run.finished, recipe_hash, created)


def _started(info: RunInfo) -> float:
    """Seconds since 1970 from the manifest, or the folder's own time without one."""
    try:
        return datetime.fromisoformat(info.created).timestamp()
    except ValueError:
        return info.run.path.stat().st_mtime


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit(checkout: Path) -> str | None:
    """Commit of the checkout the package runs from, with `+changes`; None outside one."""
    if not (checkout / ".git").exists():
        return None
    try:
        commit = _git(checkout, "rev-parse", "HEAD")
        changed = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changed else commit


def _git(checkout: Path, *arguments: str) -> str:
    command = ["git", "-C", str(checkout), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()
