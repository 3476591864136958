"""`tabom report` on invented metrics and results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tabom_cli.commands.report import report
from tabom_cli.core.errors import DataError, RunError, TabomError
from tabom_cli.core.evaluation.sweep import write_sweep

app = typer.Typer()
app.command("report")(report)


def run(*arguments: str | Path) -> str:
    outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(outcome.exception, TabomError):
        raise outcome.exception
    assert outcome.exception is None, outcome.output
    return outcome.stdout


def write_results(folder: Path, adapter: Path, value: float) -> None:
    folder.mkdir(parents=True)
    entry = {
        "metric": "exact_match,flexible-extract",
        "value": value,
        "num_correct": round(value * 100),
        "num_total": 100,
        "num_problems": 100,
        "num_samples": 1,
        "interval_95": [value - 0.1, value + 0.1],
        "pass_at": {},
        "majority": None,
        "limit": 100,
        "prompts_hash": "p",
        "remarks": {},
        "settings": {"profile": None, "paper": ["TABOM", "math"]},
        "model": "Dream-org/Dream-v0-Instruct-7B",
        "adapter": str(adapter),
        "family": "dream",
        "decode": {"strategy": "entropy", "steps": 9, "max_new_tokens": 9, "temperature": 0.0},
        "cost": {"tokens_per_forward": 1.0, "decoding_time_s": 2.0},
    }
    document = {"schema_version": 1, "created": "today", "tasks": {"gsm8k_cot": entry}}
    (folder / "results.json").write_text(json.dumps(document))


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "checkpoints/dream_prm12k/train_1"
    for name in ("epoch_1", "final"):
        (folder / name).mkdir(parents=True)
    manifest = {"tabom": "0.1.0", "command": ["tabom", "train"], "seed": 4, "device": "a|b"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "recipe.resolved.yaml").write_text("name: dream_prm12k\n")
    lines = [
        {"step": step, "epoch": 1, "loss": 1 / step, "loss_ce": 0.9 / step, "ce": 5, "lr": 1e-5}
        for step in range(1, 41)
    ]
    lines.append({"step": 40, "epoch": 1, "validation/loss": 0.125})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"step": 41, "lo')
    return folder


def test_a_report_holds_facts_curves_scores_and_recipe(run_folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "output/eval/sweep"
    write_results(place / "epoch_1", run_folder / "epoch_1", 0.80)
    write_results(place / "final", run_folder / "final", 0.75)
    write_sweep({name: place / name for name in ("epoch_1", "final")})
    write_results(tmp_path / "output/eval/other", tmp_path / "elsewhere", 0.33)
    path = Path(run(run_folder).strip())
    assert path == run_folder / "report.md"
    page = path.read_text()
    assert page.startswith("# Run dream_prm12k/train_1\n")
    assert "| device | a\\|b |" in page
    assert (run_folder / "report_curves.png").read_bytes().startswith(b"\x89PNG")
    steps = [line for line in page.splitlines() if line.startswith(("| 1 |", "| 40 |"))]
    assert steps == ["| 1 | 1 | 1 | 1e-05 | 0.9 |", "| 40 | 1 | 0.025 | 1e-05 | 0.0225 |",
                     "| 40 | 1 | 0.125 |"]  # fmt: skip
    assert page.count("beside the paper: TABOM, math") == 2
    assert "| gsm8k_cot | 75.00 | 65.00 to 85.00 | 84.31 | -9.31 | yes |" in page
    assert "33.00" not in page
    assert "80.00 (70.00 to 90.00) (epoch_1, selected)" in page
    assert "a selection, not an estimate" in page
    assert page.rstrip().endswith("```yaml\nname: dream_prm12k\n```")


def test_a_run_without_scores_says_how_to_make_them(run_folder: Path, tmp_path: Path) -> None:
    path = run(run_folder, "--output", tmp_path / "here/page.md").strip()
    page = Path(path).read_text()
    assert "Nothing was scored yet: `tabom eval" in page
    assert (tmp_path / "here/page_curves.png").is_file()


def test_what_is_no_run_or_damaged_is_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no manifest"):
        run(tmp_path)
    (run_folder / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: no JSON"):
        run(run_folder)
    (run_folder / "metrics.jsonl").unlink()
    with pytest.raises(DataError, match="no such file"):
        run(run_folder, "--results", tmp_path / "nowhere")
