"""`tabom data pull`, with invented rows in place of the Hub."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tabom_cli.commands.data_pull import pull

app = typer.Typer()
app.command("pull")(pull)


def test_files_are_listed_with_rows_and_whether_they_are_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(
        path: str, name: str | None = None, *, split: str, revision: str
    ) -> list[dict[str, Any]]:
        assert (path, name, split, revision) == ("openai/gsm8k", "main", "test", "c0ffee")
        return [{"question": str(number), "answer": "#### 1"} for number in range(1319)]

    monkeypatch.setattr("datasets.load_dataset", rows)
    monkeypatch.setattr(
        "huggingface_hub.HfApi.dataset_info", lambda *_: SimpleNamespace(sha="c0ffee")
    )
    outcome = CliRunner().invoke(app, [str(tmp_path), "gsm8k_cot"])
    assert outcome.exception is None, outcome.output
    assert "fetched" in outcome.stdout
    assert outcome.stdout.strip().splitlines()[-1] == str(tmp_path)
    outcome = CliRunner().invoke(app, [str(tmp_path), "gsm8k_cot"])
    assert "kept" in outcome.stdout
