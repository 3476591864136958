"""The help of every command, as a user reads it: flags that stay, an example that runs, no torch."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Changing this table changes scripts that people have written: think twice, and say so in CHANGELOG.
FLAGS = {
    "": {"--version", "--debug", "--install-completion", "--show-completion"},
    "distill": {
        *("--recipe", "--set", "--output", "--dry-run", "--num-processes", "--data-dir", "--shard"),
        "--resume",
    },
    "train": {
        *("--recipe", "--set", "--dry-run", "--num-processes", "--resume", "--force", "--max-time"),
    },
    "eval": {
        *("--recipe", "--set", "--output", "--dry-run", "--num-processes", "--data-dir", "--phase"),
        *("--limit", "--allow-code-execution", "--tds", "--compare", "--epochs", "--list"),
        *("--num-samples", "--profile", "--seed", "--tasks", "--tokens-per-step"),
    },
    "tds": {"--recipe", "--set", "--output", "--dry-run", "--data-dir", "--task", "--prompts"},
    "report": {"--output", "--results"},
    "generate": {"--recipe", "--set", "--output", "--prompt", "--prompts"},
    "export": {"--base", "--dtype"},
    "doctor": {"--recipe", "--set", "--json"},
    "rename-checkpoints": {"--output", "--dry-run"},
    "data": set(),
    "data inspect": {"--html", "--row", "--rows", "--tokenizer", "--verdict"},
    "data stats": {"--json", "--tokenizer"},
    "data merge": {"--output"},
    "data import": {"--keep-verdicts", "--method", "--output", "--tokenizer"},
    "data export": {"--format", "--license", "--output", "--tokenizer", "--verdict"},
    "data pull": {"--again"},
    "recipes": set(),
    "recipes list": set(),
    "recipes show": {"--set", "--resolved"},
    "recipes copy": set(),
    "recipes validate": {"--set"},
    "recipes schema": set(),
}

NEEDS_NETWORK = {"data pull"}

_WALK = """
import json
import typer
from tabom_cli.main import app

def walk(command, path):
    options = [p for p in command.params if p.opts[0].startswith("-")]
    context = typer.Context(command, info_name=" ".join(["tabom", *path]))
    found[" ".join(path)] = {
        "help": command.get_help(context),
        "flags": sorted(o for p in options for o in p.opts if o.startswith("--")),
        "undocumented": [p.name for p in options if not p.help],
    }
    for name, inner in getattr(command, "commands", {}).items():
        walk(inner, [*path, name])

found = {}
walk(typer.main.get_command(app), [])
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Described:
    """One command as the program describes it."""

    help: str
    flags: set[str]
    undocumented: list[str]

    @property
    def example(self) -> str | None:
        """The command line behind `Example:`, unwrapped."""
        match = re.search(r"Example: (.+?)(?:\n\s*\n|\Z)", self.help, re.DOTALL)
        return " ".join(match.group(1).split()) if match else None


@pytest.fixture(scope="module")
def commands() -> dict[str, Described]:
    """Every command by its words, from a fresh process without Rich."""
    done = subprocess.run(
        [sys.executable, "-c", _WALK],
        env={**os.environ, "TYPER_USE_RICH": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return {
        name: Described(value["help"], set(value["flags"]), value["undocumented"])
        for name, value in json.loads(done.stdout).items()
    }


def test_no_command_and_no_flag_came_or_went_unnoticed(commands: dict[str, Described]) -> None:
    found = {name: command.flags - {"--help"} for name, command in commands.items()}
    assert found == FLAGS


def test_every_command_and_every_option_is_documented(commands: dict[str, Described]) -> None:
    for name, command in commands.items():
        assert command.undocumented == [], name
        assert len(command.help.splitlines()[2].strip()) > 20, name


def test_help_is_plain_ascii_and_not_wider_than_a_terminal(commands: dict[str, Described]) -> None:
    for name, command in commands.items():
        assert command.help.isascii(), name
        assert max(len(line) for line in command.help.splitlines()) <= 80, name


def test_every_command_has_an_example_that_starts_with_it(commands: dict[str, Described]) -> None:
    for name, command in commands.items():
        if name:
            assert command.example is not None, name
            assert command.example.startswith(f"tabom {name}"), name


def test_the_readme_shows_every_command(commands: dict[str, Described]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [name for name in commands if name and f"tabom {name}" not in readme]
    assert missing == []


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `bin/tabom` is this checkout's."""
    folder = tmp_path_factory.mktemp("shell")
    script = folder / "bin" / "tabom"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m tabom_cli.main "$@"\n')
    script.chmod(0o755)
    return folder


def example_line(name: str, command: Described, folder: Path) -> str:
    """The example, as a dry run where there is one, after making what it presupposes."""
    line = command.example or ""
    if "--dry-run" in command.flags and "--dry-run" not in line:
        line += " --dry-run"
    (folder / "checkpoints").mkdir()
    if name == "report":
        run = folder / shlex.split(line)[2]
        run.mkdir(parents=True)
        (run / "metrics.jsonl").write_text('{"step": 1, "epoch": 1, "loss": 2.0, "lr": 0.1}\n')
        (run / "manifest.json").write_text('{"recipe_hash": "a", "created": "2026-01-01"}')
        shutil.copy(ROOT / "recipes" / "tiny.yaml", run / "recipe.resolved.yaml")
    return line


@pytest.mark.parametrize("name", sorted(set(FLAGS) - {""} - NEEDS_NETWORK))
def test_the_example_in_the_help_runs(
    commands: dict[str, Described], shell: Path, tmp_path: Path, name: str
) -> None:
    line = example_line(name, commands[name], tmp_path)
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{shell / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    if ">" in line:
        assert json.loads((tmp_path / line.split("> ")[1]).read_text())["title"] == "tabom recipe"
    else:
        assert done.stdout + done.stderr


_RUN = """
import contextlib, io, json, sys
from tabom_cli.main import run
for line in json.loads(sys.argv[1]):
    sys.argv = ["tabom", *line]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            run()
            code = 0
        except SystemExit as error:
            code = error.code or 0
    heavy = ("torch", "transformers", "peft", "accelerate", "datasets", "lm_eval", "pandas")
    print(json.dumps([code, [name for name in heavy if name in sys.modules]]))
"""


def imported(lines: list[list[str]], cwd: Path) -> list[tuple[int, list[str]]]:
    """Exit code and heavy modules after each of several commands in one fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(lines)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    return [(code, names) for code, names in map(json.loads, done.stdout.splitlines())]


def test_help_and_the_list_of_recipes_import_nothing_heavy(tmp_path: Path) -> None:
    lines = [[*name.split(), "--help"] for name in FLAGS]
    lines += [["--version"], ["recipes", "list"], ["recipes", "show", "tiny"]]
    lines += [["recipes", "copy", "tiny", "mine.yaml"], ["nonsense"], ["train"]]
    results = imported(lines, tmp_path)
    assert [names for _, names in results] == [[]] * len(lines)
    assert [code for code, _ in results] == [0] * (len(lines) - 2) + [2, 2]


def test_validation_and_dry_runs_import_no_transformers(tmp_path: Path) -> None:
    """They may import torch, which knows the objectives; sizes come from shapes alone."""
    lines = [
        *(["recipes", "validate", name] for name in ("tiny", "dream_ling_coder", "llada_prm12k")),
        ["recipes", "show", "tiny", "--resolved"],
        ["recipes", "schema"],
        *(
            ["train", "--recipe", name, "--dry-run"]
            for name in ("tiny", "tiny_base", "llada_prm12k")
        ),
        ["distill", "--recipe", "tiny", "--dry-run"],
        ["eval", "tiny", "countdown", "--dry-run"],
        ["tds", "tiny", "--recipe", "tiny", "--task", "countdown", "--dry-run"],
    ]
    results = imported(lines, tmp_path)
    assert [code for code, _ in results] == [0] * len(lines)
    for line, (_, names) in zip(lines, results, strict=True):
        assert set(names) <= {"torch", "accelerate"}, line


def test_help_comes_quickly() -> None:
    """About 0.3 s on an idle machine; the bound only catches an import that went astray."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "tabom_cli.main", "--help"], check=True, capture_output=True
        )
        times.append(time.perf_counter() - started)
    assert statistics.median(times) < 3.0
