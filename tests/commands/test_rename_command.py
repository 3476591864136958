"""`tabom rename-checkpoints`: the plan is shown, a dry run changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tabom_cli.commands.rename_checkpoints import rename_checkpoints
from tabom_cli.core.errors import RunError, TabomError, UsageError
from tabom_cli.core.legacy_names import RELEASES

app = typer.Typer()
app.command("rename-checkpoints")(rename_checkpoints)


def run(*arguments: str) -> str:
    outcome = CliRunner().invoke(app, list(arguments))
    if isinstance(outcome.exception, TabomError):
        raise outcome.exception
    assert outcome.exception is None, outcome.output
    return outcome.stdout


def test_a_dry_run_shows_the_plan_and_a_run_carries_it_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    legacy = Path("checkpoints") / RELEASES[2].legacy_path
    legacy.mkdir(parents=True)
    (legacy / "adapter_config.json").write_text("{}")
    out = run("--dry-run")
    assert str(legacy) in out
    assert "checkpoints/llada_prm12k/epoch_5" in out
    assert (legacy / "adapter_config.json").exists()
    assert run("llada_prm12k").splitlines()[-1] == "checkpoints"
    assert Path("checkpoints/llada_prm12k/adapter_config.json").read_text() == "{}"
    assert "plan" not in run()


def test_a_collision_and_a_missing_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        run("--output", str(tmp_path / "nothing"))
    for folder in (tmp_path / RELEASES[0].legacy_path, tmp_path / "dream_prm12k" / "epoch_1"):
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(RunError, match=r"both .* exist"):
        run("--output", str(tmp_path))
