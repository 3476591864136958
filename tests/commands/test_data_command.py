"""`tabom data`: what it shows, writes and refuses. Every example of the help texts runs."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tabom_cli.commands.data import app
from tabom_cli.core.data.records import Trajectory
from tabom_cli.core.data.trajectory import read_trajectories
from tabom_cli.core.errors import DataError, TabomError, UsageError

NAMES = ("inspect", "stats", "merge", "import", "export")


def run(*arguments: str) -> str:
    outcome = CliRunner().invoke(app, list(arguments))
    if isinstance(outcome.exception, TabomError):
        raise outcome.exception
    assert outcome.exception is None, outcome.output
    return outcome.output


@pytest.mark.parametrize("name", NAMES)
def test_the_example_in_the_help_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = " ".join(run(name, "--help").split())
    match = re.search(r"Example: tabom data (.*?) (?:Arguments|Options):", text)
    assert match, text
    assert run(*shlex.split(match.group(1)))


def test_help_and_registration_load_no_torch() -> None:
    source = (
        "import sys; from typer.testing import CliRunner; from tabom_cli.main import app;"
        "done = CliRunner().invoke(app, ['data', '--help']); assert done.exit_code == 0;"
        "assert 'inspect' in done.output;"
        "sys.exit(', '.join({'torch', 'transformers', 'datasets'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_inspect_shows_prompt_answer_and_steps() -> None:
    row = read_trajectories("asset:examples.jsonl")[0][0]
    text = run("inspect", "asset:examples.jsonl", "--row", row.id)
    assert f"prompt: {row.prompt}" in text
    assert f"answer: {row.response}" in text
    steps = re.search(r"steps: ([\d ]+)", text)
    assert steps
    shown = [int(step) for step in steps.group(1).split()]
    assert shown == (row.decoding_order or [])[: len(shown)]
    assert "wrong" in text
    for arguments in (["--row", "none"], ["--verdict", "timeout"]):
        with pytest.raises(DataError, match="no such row"):
            run("inspect", "asset:examples.jsonl", *arguments)


def test_inspect_reads_no_further_than_it_shows(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "response": "r", "id": f"row{i}"} for i in range(3)]
    lines = [*map(json.dumps, rows), "damaged", json.dumps({"prompt": "p4", "response": "r"})]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(lines) + "\n")
    text = run("inspect", str(path), "--rows", "2")
    assert ("p1" in text, "p2" in text) == (True, False)
    assert "the first 2 rows; --rows N shows more" in text
    assert "prompt: p1" in run("inspect", str(path), "--row", "row1")
    with pytest.raises(DataError, match=r"t\.jsonl:4: not JSON"):
        run("inspect", str(path), "--rows", "4")


def test_imported_rows_name_their_model_and_so_their_end_tokens(tmp_path: Path) -> None:
    path, output = tmp_path / "d.json", tmp_path / "rows.jsonl"
    row = {"question": "q", "response": "5<|endoftext|>", "step_map": [0, 1], "reward": 1.0}
    path.write_text(json.dumps([row]))
    run("import", str(path), "--tokenizer", "tiny", "--output", str(output))
    assert json.loads(output.read_text())["model"] == "tiny"
    text = run("stats", str(output))
    assert "Warning" not in text.replace("Warning: orders", "")


def test_an_export_without_verdicts_says_which_answers_failed(tmp_path: Path) -> None:
    rows = read_trajectories("asset:examples.jsonl")[0]
    failed = sum(row.verdict != "correct" for row in rows)
    text = run("export", "asset:examples.jsonl", "--output", str(tmp_path / "all.jsonl"))
    assert f"{failed} of {len(rows)} answers failed their check (" in text
    output = ("--output", str(tmp_path / "correct.jsonl"), "--verdict", "correct")
    assert "failed their check" not in run("export", "asset:examples.jsonl", *output)


def test_inspect_writes_a_page(tmp_path: Path) -> None:
    run("inspect", "asset:examples.jsonl", "--html", str(tmp_path / "p.html"))
    page = (tmp_path / "p.html").read_text()
    assert page.count('class="answer"') == 3
    assert "data-step" in page


def test_rows_of_an_unknown_model_are_shown_as_text(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    row = Trajectory(id="a", group_id="a", prompt="p", response="r", response_token_ids=[1, 2])
    path.write_text(json.dumps(row.model_dump(mode="json")) + "\n")
    assert "answer: r" in run("inspect", str(path))
    with pytest.raises(UsageError, match="a page needs the tokens' texts"):
        run("inspect", str(path), "--html", str(tmp_path / "p.html"))


def test_stats_warn_about_orders_that_are_no_orders(tmp_path: Path) -> None:
    values = json.loads(run("stats", "asset:examples.jsonl", "--json"))
    assert (values["num_rows"], values["acceptance"]) == (8, 0.625)
    assert values["kendall_tau"]["mean"] < 0.5
    assert values["warnings"] == []
    ltr = tmp_path / "ltr.jsonl"
    rows = read_trajectories("asset:examples.jsonl")[0]
    flat = [
        row.model_copy(
            update={
                "decoding_order": list(range(len(row.response_token_ids or ()))),
                "decoding_entropy": [0.0] * len(row.response_token_ids or ()),
            }
        )
        for row in rows
    ]
    ltr.write_text("".join(json.dumps(row.model_dump(mode="json")) + "\n" for row in flat))
    text = " ".join(run("stats", str(ltr)).split())
    assert "orders are almost left to right (Kendall tau 1.00)" in text
    assert "100% of the recorded entropies are near zero" in text


def test_stats_warn_about_a_tempered_ranking_that_raw_entropies_do_not_show(
    tmp_path: Path,
) -> None:
    rows = read_trajectories("asset:examples.jsonl")[0]
    path, manifest = tmp_path / "t.jsonl", tmp_path / "t.manifest.json"
    path.write_text("".join(row.model_dump_json() + "\n" for row in rows))
    for confidence, warned in ((1.0, False), (None, True)):
        decode = {"temperature": 0.1, "top_p": 0.9, "confidence_temperature": confidence}
        values = {"all_ids_hash": "x", "distill": {"decode": decode}}
        manifest.write_text(json.dumps(values))
        assert ("ranked on the distribution after temperature 0.1" in run("stats", str(path))) == (
            warned
        )
        shown = run("stats", str(path), "--json")
        assert ("ranked on the distribution" in shown) == warned
    manifest.write_text(json.dumps({"all_ids_hash": "x", "distill": {"decode": {"new": 1}}}))
    with pytest.raises(DataError, match="decode settings of another version"):
        run("stats", str(path))


def test_an_export_for_the_hub_holds_rows_and_card(tmp_path: Path) -> None:
    folder = tmp_path / "data_set"
    arguments = ["--format", "hub", "--license", "mit", "--verdict", "correct"]
    run("export", "asset:examples.jsonl", "--output", str(folder), *arguments)
    rows, _ = read_trajectories(folder / "data" / "train.jsonl")
    assert {row.verdict for row in rows} == {"correct"}
    assert len(rows) == 5
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n")
    assert "| rows | 5 |" in card
    with pytest.raises(UsageError, match="--license belongs to --format hub"):
        run("export", "asset:examples.jsonl", "--output", str(tmp_path / "r"), "--license", "mit")
