"""The program around the commands: exit codes, streams, --version, --debug, completion, ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tabom_processes import Nursery, run_fresh

import tabom_cli
from tabom_cli import console, main
from tabom_cli.core.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_NOT_READY,
    EXIT_OK,
    EXIT_USAGE,
    RunError,
)
from tabom_cli.core.progress import ProgressEvent


@pytest.fixture
def tabom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Runs the program in this process: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TABOM_DEBUG", raising=False)
    # Set, so that what the program sets is undone behind the test.
    monkeypatch.setenv("OMP_WAIT_POLICY", "")
    monkeypatch.delenv("OMP_WAIT_POLICY")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tabom", *arguments])
        code = 0
        try:
            main.run()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        os.environ.pop("TABOM_DEBUG", None)
        return code, captured.out, captured.err

    return run


def test_the_version_is_that_of_the_package(tabom) -> None:
    assert tabom("--version") == (EXIT_OK, f"tabom {tabom_cli.__version__}\n", "")


def test_idle_threads_sleep_unless_told_otherwise(tabom, monkeypatch: pytest.MonkeyPatch) -> None:
    tabom("--version")
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    tabom("--version")
    assert os.environ["OMP_WAIT_POLICY"] == "active"


def test_every_shipped_recipe_is_listed(tabom) -> None:
    code, out, err = tabom("recipes", "list")
    assert (code, err) == (EXIT_OK, "")
    names = [line.split("│")[0].strip() for line in out.splitlines()[2:]]
    assert names == [
        *("dream_ling_coder", "dream_prm12k", "llada_ling_coder", "llada_prm12k"),
        *("tiny", "tiny_base"),
    ]


def test_a_copied_recipe_is_the_shipped_one_and_valid(tabom, tmp_path: Path) -> None:
    code, out, err = tabom("recipes", "copy", "tiny", "mine/deep.yaml")
    assert (code, out) == (EXIT_OK, "mine/deep.yaml\n")
    assert "tabom train --recipe mine/deep.yaml --dry-run" in err
    assert tabom("recipes", "show", "tiny")[1] == (tmp_path / "mine" / "deep.yaml").read_text()
    code, out, _ = tabom("recipes", "validate", "mine/deep.yaml")
    assert (code, out) == (EXIT_OK, "mine/deep.yaml: recipe 'tiny' is valid\n")
    assert tabom("recipes", "copy", "tiny", ".")[1] == "tiny.yaml\n"
    assert tabom("recipes", "copy", "tiny", ".")[0] == EXIT_FAILED


def test_a_resolved_recipe_is_shown_with_origins(tabom) -> None:
    code, out, _ = tabom("recipes", "show", "tiny", "--set", "train.epochs=9")
    assert code == EXIT_OK
    rows = [[cell.strip() for cell in line.split("│")] for line in out.splitlines()]
    assert ["train.epochs", "9", "command line"] in rows
    assert ["train.eps", "1e-08", "default"] in rows
    assert ["name", "tiny", "recipe"] in rows


@pytest.mark.parametrize(
    ("arguments", "code", "texts"),
    [
        (("recipes", "validate", "tinny"), EXIT_USAGE, ("unknown recipe 'tinny'", "'tiny'?")),
        (("train", "--recipe", "gone.yaml"), EXIT_USAGE, ("recipe file not found: gone.yaml",)),
        (("train", "--recipe", "tiny", "--set", "a"), EXIT_USAGE, ("--set a: expected key=value",)),
        (("train", "--recipe", "tiny", "--set", "objective.name=tabon"), EXIT_USAGE, ("'tabom'?",)),
        (("distill", "--recipe", "tiny_base"), EXIT_USAGE, ("has no distill section",)),
        (("eval", "tiny", "cuontdown"), EXIT_USAGE, ("unknown task 'cuontdown'", "countdown")),
        (("eval", "nowhere/at/all", "countdown"), EXIT_FAILED, ("nowhere/at/all",)),
        (("tds",), EXIT_USAGE, ("nothing to measure",)),
        (("rename-checkpoints",), EXIT_USAGE, ("checkpoints", "does not exist")),
        (("nonsense",), EXIT_USAGE, ("nonsense",)),
        (("train",), EXIT_USAGE, ("--recipe",)),
        (("train", "--recpie", "tiny"), EXIT_USAGE, ("--recpie",)),
        (("train", "--recipe", "tiny", "--num-processes", "x"), EXIT_USAGE, ("--num-processes",)),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong_on_stderr(
    tabom, arguments: tuple[str, ...], code: int, texts: tuple[str, ...]
) -> None:
    found, out, err = tabom(*arguments)
    assert (found, out) == (code, ""), err
    assert err.count("Error: ") == 1
    assert "Traceback" not in err
    for text in texts:
        assert text in err


def test_a_machine_that_lacks_something_is_exit_code_3(work: Path, nursery: Nursery) -> None:
    values = ("--recipe", "small.yaml", "--set", "model.path=nobody/has-this-model")
    done = nursery.run("distill", *values, cwd=work)
    assert done.code == EXIT_NOT_READY, done.stderr
    assert "nobody/has-this-model" in done.stderr
    assert "Hint: " in done.stderr


def test_ctrl_c_in_any_command_is_said(tabom, monkeypatch: pytest.MonkeyPatch) -> None:
    from tabom_cli.core import recipe

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "list_recipes", interrupt)
    assert tabom("recipes", "list") == (EXIT_INTERRUPTED, "", "Error: interrupted\n")


def test_progress_off_a_terminal_says_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([0.0, 10.0, 12.0, 20.0, 30.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(times))
    with console.progress_display() as show:
        for done in (16, 26, 27, 36, 60):
            show(ProgressEvent(task="generate", done=done, total=60))
    assert capsys.readouterr().err.splitlines() == [
        "generate 16/60",
        "generate 26/60  0:00:34 left",
        "generate 36/60  0:00:24 left",
        "generate 60/60",
    ]


def test_debug_shows_the_traceback_above_the_message(tabom) -> None:
    code, _, err = tabom("--debug", "recipes", "validate", "tinny")
    assert code == EXIT_USAGE
    assert err.index("Traceback (most recent call last)") < err.index("\nError: unknown recipe")
    assert "find_recipe" in err


def test_a_bug_is_not_hidden(tabom, monkeypatch: pytest.MonkeyPatch) -> None:
    from tabom_cli.core import recipe

    def fail() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(recipe, "list_recipes", fail)
    with pytest.raises(ZeroDivisionError):
        tabom("recipes", "list")


def test_markup_in_messages_is_text(tabom, monkeypatch: pytest.MonkeyPatch) -> None:
    from tabom_cli.core import recipe

    def fail() -> None:
        raise RunError("[bold]x[/bold] in [a, b]", hint="[red]y")

    monkeypatch.setattr(recipe, "list_recipes", fail)
    assert tabom("recipes", "list") == (1, "", "Error: [bold]x[/bold] in [a, b]\nHint: [red]y\n")


def test_only_the_first_process_speaks(tabom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert tabom("recipes", "list") == (EXIT_OK, "", "")
    code, out, err = tabom("recipes", "validate", "tinny")
    assert (code, out) == (EXIT_USAGE, "")
    assert "unknown recipe" in err, "an error that one process alone meets must not be lost"


def test_completion_offers_commands_and_options(tmp_path: Path) -> None:
    for words, expected in (("tabom rec", "recipes"), ("tabom train --dr", "--dry-run")):
        environment = {
            "_TABOM_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        script = "import sys; sys.argv = ['tabom']; from tabom_cli.main import app; app(prog_name='tabom')"
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [expected]


def test_the_program_starts_in_a_fresh_process_and_a_closed_pipe_is_no_error(
    tmp_path: Path,
) -> None:
    done = run_fresh("recipes", "validate", "tiny", cwd=tmp_path)
    assert (done.code, done.stderr) == (EXIT_OK, "")
    line = f"{sys.executable} -m tabom_cli.main recipes schema | head -n 1"
    piped = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert (piped.stdout, piped.stderr) == ("{\n", "")
