"""`tabom tds` on a random tiny model: what it writes, says and refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from tabom_cli.assets import tiny_path
from tabom_cli.commands.tds import tds
from tabom_cli.core.errors import EXIT_USAGE, DataError, RunError, TabomError, UsageError

DECODE = "tds.decode={steps: 4, max_new_tokens: 8, confidence_temperature: 1.0}"

app = typer.Typer()
app.command("tds")(tds)


def run(*arguments: str) -> str:
    outcome = CliRunner().invoke(app, list(arguments))
    if isinstance(outcome.exception, TabomError):
        raise outcome.exception
    assert outcome.exception is None, outcome.output
    return outcome.stdout


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A random base and an adapter on it."""
    from tabom_cli.core.models.config import LoraConfig, ModelConfig
    from tabom_cli.core.models.load import load_model

    base, adapter = (tmp_path_factory.mktemp(name) for name in ("base", "adapter"))
    model = load_model(ModelConfig(path="tiny", init="random", dtype="float32"))
    with torch.no_grad():
        model.network.lm_head.weight.mul_(30)  # type: ignore[union-attr,operator]
    model.network.save_pretrained(base)  # type: ignore[operator]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_path() / name, base / name)
    tuned = load_model(ModelConfig(path=str(base), dtype="float32"), lora=LoraConfig(rank=2))
    with torch.no_grad():
        for name, weight in tuned.network.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.3)
    tuned.network.save_pretrained(adapter)  # type: ignore[operator]
    return str(base), str(adapter)


def test_two_checkpoints_are_measured_on_the_same_prompts(
    models: tuple[str, str], tmp_path: Path
) -> None:
    arguments = ["--recipe", "tiny", "--set", DECODE, "--set", "tds.num_prompts=3"]
    out = run(*models, *arguments, "--output", str(tmp_path / "out"))
    assert out.splitlines()[-1] == str(tmp_path / "out" / "tds.json")
    assert f"{models[1]} minus {models[0]}" in out
    values = json.loads((tmp_path / "out" / "tds.json").read_text())
    assert [entry["adapter"] for entry in values["models"]] == [None, models[1]]
    assert len(set(values["prompt_ids"])) == 3
    for entry in values["models"]:
        assert entry["results"]["visible_eos"]["num_trajectories"] == 3
    scores = [entry["results"]["all"]["tds"] for entry in values["models"]]
    assert scores[0] != scores[1]
    assert values["manifest"]["seed"] == 1
    assert (tmp_path / "out" / "tds.png").stat().st_size > 10_000

    run(*models, *arguments, "--set", "tds.bins=5", "--output", str(tmp_path / "again"))
    again = json.loads((tmp_path / "again" / "tds.json").read_text())
    assert [entry["results"]["all"]["tds"] for entry in again["models"]] == scores
    with pytest.raises(RunError, match="exists"):
        run(*models, *arguments, "--output", str(tmp_path / "out"))


def test_prompts_can_come_from_a_file_of_either_kind(
    models: tuple[str, str], tmp_path: Path
) -> None:
    from tabom_cli.core.evaluation.records import RequestsHeader, make_request, write_requests

    plain = tmp_path / "prompts.jsonl"
    plain.write_text("".join(json.dumps({"prompt": f"add {n} and 2"}) + "\n" for n in range(4)))
    requests = tmp_path / "requests.jsonl"
    header = RequestsHeader(
        tasks=("countdown",),
        task_versions={},
        data_dir=None,
        num_fewshot=0,
        limit=None,
        num_samples=1,
        seed=0,
        harness="0",
    )
    request = make_request(
        "countdown",
        0,
        messages=[{"role": "user", "content": "add 1 and 2"}],
        gen_prefix=None,
        until=(),
        max_new_tokens=None,
        seed=0,
    )
    write_requests(requests, header, [request])
    for path, count in ((plain, 2), (requests, 1)):
        out = tmp_path / f"out_{path.stem}"
        run(
            *(models[0], "--recipe", "tiny", "--prompts", str(path), "--output", str(out)),
            *("--set", DECODE, "--set", "tds.num_prompts=2"),
        )
        values = json.loads((out / "tds.json").read_text())
        assert len(values["prompt_ids"]) == count
    assert values["prompt_ids"] == [request.id]


def test_without_checkpoints_the_base_meets_the_newest_run(
    models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="no run of recipe 'tiny'"):
        run("--recipe", "tiny")
    for name, created in (("train_old", "2026-01-01"), ("train_new", "2026-02-01")):
        folder = tmp_path / "checkpoints" / "tiny" / name
        shutil.copytree(models[1], folder / "final")
        (folder / "manifest.json").write_text(json.dumps({"created": created}))
    empty = tmp_path / "checkpoints" / "tiny" / "train_newest"
    empty.mkdir()
    (empty / "manifest.json").write_text(json.dumps({"created": "2026-03-01"}))
    out = run("--recipe", "tiny", "--dry-run", "--set", f"model.path={models[0]}")
    assert "model base" in out
    assert "train_new/final" in out
    assert "train_old" not in out
    assert "train_newest" not in out


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ((), UsageError, "nothing to measure"),
        (("tiny", "tiny", "--recipe", "tiny"), UsageError, "named twice"),
        (("tiny", "--recipe", "tiny", "--task", "nope"), UsageError, "unknown task 'nope'"),
        (("tiny", "--task", "countdown", "--prompts", "x"), UsageError, "exclude"),
        (("nowhere/at/all", "--recipe", "tiny"), TabomError, "nowhere"),
        (("tiny", "--recipe", "tiny", "--prompts", "nothing.jsonl"), DataError, "nothing.jsonl"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: tuple[str, ...], kind: type[TabomError], text: str
) -> None:
    with pytest.raises(kind, match=text) as caught:
        run(*arguments)
    if kind is UsageError:
        assert caught.value.exit_code == EXIT_USAGE


def test_measuring_imports_no_harness_and_a_dry_run_no_transformers(
    models: tuple[str, str], tmp_path: Path
) -> None:
    source = """
        import sys, typer
        from tabom_cli.commands.tds import tds
        app = typer.Typer()
        app.command("tds")(tds)
        arguments, out = sys.argv[2:], sys.argv[1]
        app([*arguments, "--output", out, "--dry-run"], standalone_mode=False)
        found = [name for name in ("transformers", "datasets", "lm_eval") if name in sys.modules]
        app([*arguments, "--output", out], standalone_mode=False)
        found += [name for name in ("datasets", "lm_eval", "pandas") if name in sys.modules]
        print("imported", found, file=sys.stderr)
    """
    arguments = [str(tmp_path / "out"), models[1], "--recipe", "tiny", "--set", DECODE]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), *arguments, "--set", "tds.num_prompts=1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "imported []" in done.stderr
