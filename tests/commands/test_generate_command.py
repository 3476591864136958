"""`tabom generate`: the answer as text, as rows, and drawn while it is denoised."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from tabom_cli.commands.generate import END_OF_TEXT
from tabom_cli.console_denoise import UNDECIDED, DenoiseDisplay, step_style
from tabom_cli.core import plugins
from tabom_cli.core.data.trajectory import read_trajectories
from tabom_cli.core.errors import DataError, RunError, TabomError, UsageError
from tabom_cli.core.models.config import LoraConfig, ModelConfig
from tabom_cli.core.models.export import save_model
from tabom_cli.core.models.load import load_model
from tabom_cli.core.models.tokenizers import load_tokenizer
from tabom_cli.main import app

FIXTURES = Path(__file__).parents[1] / "fixtures"
DECODE = ("--recipe", "tiny", "--set", "eval.decode={steps: 8, max_new_tokens: 8, schedule: even}")


def generate(*arguments: str, stdin: str | None = None) -> str:
    outcome = CliRunner().invoke(app, ["generate", *arguments], input=stdin)
    if isinstance(outcome.exception, TabomError):
        raise outcome.exception
    assert outcome.exception is None, outcome.output
    return outcome.stdout


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A random base whose answers depend on the prompt, and an adapter that changes them."""
    base, adapter = (tmp_path_factory.mktemp(f"generate_{name}") for name in ("base", "adapter"))
    model = load_model(ModelConfig(path="tiny", init="random", dtype="float32"))
    with torch.no_grad():
        model.network.lm_head.weight.mul_(30)  # type: ignore[union-attr,operator]
    save_model(model, base)
    tuned = load_model(ModelConfig(path=str(base), dtype="float32"), lora=LoraConfig(rank=2))
    with torch.no_grad():
        for name, weight in tuned.network.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(0))
    save_model(tuned, adapter)
    return str(base), str(adapter)


def test_off_a_terminal_the_answer_is_plain_text_on_stdout(models: tuple[str, str]) -> None:
    out = generate(models[0], "--prompt", "add 1 and 2", *DECODE)
    assert "\x1b" not in out
    assert out == generate(models[0], "--prompt", "-", *DECODE, stdin="add 1 and 2")
    assert out != generate(models[1], "--prompt", "add 1 and 2", *DECODE)


def test_a_file_of_prompts_becomes_trajectory_rows_in_its_order(
    models: tuple[str, str], tmp_path: Path
) -> None:
    prompts, output = tmp_path / "prompts.jsonl", tmp_path / "new" / "rows.jsonl"
    texts = [f"add {n} and {n}" + " please" * (5 - n) for n in range(5)]
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    few = (*DECODE, "--set", "eval.decode.batch_size=2")
    out = generate(models[1], "--prompts", str(prompts), *few, "--output", str(output))
    assert out.splitlines()[-1] == str(output)
    rows, _ = read_trajectories(output, needs_order=True, needs_ids=True, response_length=8)
    assert [row.prompt for row in rows] == texts
    for row in rows:
        assert sorted(row.decoding_order or ()) == list(range(8))
        assert row.adapter == models[1]
        assert row.verdict == "unverified"
    printed = generate(models[1], "--prompts", str(prompts), *DECODE)
    again = [json.loads(line) for line in printed.splitlines()]
    assert [row["response_token_ids"] for row in again] == [r.response_token_ids for r in rows]
    with pytest.raises(RunError, match="exists"):
        generate(models[1], "--prompts", str(prompts), *few, "--output", str(output))


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("entropy", "{}"),
        ("random", "{}"),
        ("threshold", "{}"),
        ("factor", "{}"),
        ("credit", "{}"),
        ("hierarchical", "{}"),
    ],
)
def test_any_strategy_answers(strategy: str, options: str, models: tuple[str, str]) -> None:
    changes = (
        f"eval.decode={{strategy: {strategy}, steps: 8, max_new_tokens: 8, options: {options}}}"
    )
    assert generate(models[0], "--recipe", "tiny", "--prompt", "add", "--set", changes)


class Terminal(io.StringIO):
    """Remembers what was written to it."""

    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, *arguments: str, rows: int, width: int) -> str:
    """What `tabom generate` writes to a terminal of that size, control codes included."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", "COLUMNS": width, "LINES": rows}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(sys, "stdout", screen := Terminal())
    app(["generate", *arguments], standalone_mode=False)
    return screen.getvalue()


def visible(drawn: str) -> str:
    """Text without control codes."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)


def test_a_terminal_shows_every_step(
    models: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = on_a_terminal(monkeypatch, models[0], "--prompt", "add", *DECODE, rows=24, width=70)
    assert all(f"step {step + 1}, {7 - step} masked" in drawn for step in range(7))
    assert "8 steps" in drawn
    assert UNDECIDED not in drawn.rpartition("masked")[2]


def test_an_answer_taller_than_the_terminal_is_drawn_by_screens_and_left_whole(
    models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, width = 8, 30
    long = "eval.decode={steps: 16, max_new_tokens: 256, schedule: even}"
    ask = (models[0], "--prompt", "add", "--recipe", "tiny", "--set", long)
    drawn = visible(on_a_terminal(monkeypatch, *ask, rows=rows, width=width))
    *live, whole, rest = re.split(r"\[(?:step )?\d+[^\]]*\]", drawn)
    assert rest.strip() == ""
    assert len(live) >= 16
    assert all(len(frame.strip().splitlines()) < rows for frame in live)
    assert all(UNDECIDED in frame for frame in live[:15])
    assert max(map(len, whole.splitlines())) <= width

    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "add"}\n')
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)
    row = json.loads(generate(ask[0], "--prompts", str(prompts), *ask[3:]))
    model = load_model(ModelConfig(path=models[0], dtype="float32"))
    ends = {*model.ids.end, model.ids.eos, model.ids.pad}
    pieces = [
        END_OF_TEXT if token in ends else model.tokenizer.decode([token])
        for token in row["response_token_ids"]
    ]
    assert "".join(whole.split()) == "".join("".join(pieces).split())


def test_characters_of_several_tokens_are_whole_in_the_picture() -> None:
    tokenizer = load_tokenizer(FIXTURES / "checkpoints" / "Dream-v0-Instruct-7B")
    text = "ok \U0001f9ff\u2603\U0001f9ff \ua66e."
    tokens = tokenizer(text)["input_ids"]
    assert len(tokens) > len(text)
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=70, color_system=None)
    display = DenoiseDisplay(tokenizer.decode, num_steps=2, console=terminal)
    masked = [True] * len(tokens)
    with display:
        for step in range(2):
            display.before_reveal(_view(step, tokens, masked))
            masked = [step == 0 and position % 2 == 1 for position in range(len(tokens))]
            display.after_reveal(_view(step, tokens, masked))
    whole = visible(screen.getvalue()).rpartition("masked]")[2]
    assert text in whole
    assert "\ufffd" not in whole


def test_positions_keep_the_colour_of_the_step_that_decided_them() -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=70, color_system="truecolor")
    display = DenoiseDisplay(
        lambda ids: "abc"[ids[0]], num_steps=2, console=terminal, titles={"r": "Why?"}
    )
    states = [(0, [0, 1, 2], [True, False, True]), (1, [0, 1, 2], [False, False, False])]
    with display:
        for step, tokens, masked in states:
            display.before_reveal(_view(step, tokens, [True] * 3))
            display.after_reveal(_view(step, tokens, masked))
        final = display._picture([0, 1, 2], 1)
    assert final.plain == "abc"
    styles = {final.plain[span.start : span.end]: str(span.style) for span in final.spans}
    assert styles["b"] == step_style(0.0)
    assert styles["a"] == styles["c"] == step_style(1.0)
    assert "Why?" in screen.getvalue()


def _view(step: int, tokens: list[int], masked: list[bool]) -> Any:
    return SimpleNamespace(
        request_ids=("r",),
        step_B=torch.tensor([step]),
        canvas_BT=torch.tensor([tokens]),
        masked_BT=torch.tensor([masked]),
    )


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (("tiny",), UsageError, "either --prompt"),
        (("tiny", "--prompt", "a", "--prompts", "b"), UsageError, "either --prompt"),
        (("tiny", "--prompt", "  "), UsageError, "empty"),
        (("tiny", "--prompts", "nothing.jsonl"), TabomError, "nothing.jsonl"),
        (("no/where/at/all", "--prompt", "a"), TabomError, "no such folder"),
        (("tiny", "--prompt", "a", "--set", "eval.decode.strategy=nope"), TabomError, "nope"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    arguments: tuple[str, ...], kind: type[TabomError], text: str
) -> None:
    with pytest.raises(kind, match=text):
        generate(*arguments)


def test_equal_prompts_are_each_answered(models: tuple[str, str], tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "add"}\n{"prompt": "sub"}\n{"prompt": "add"}\n')
    rows = [
        json.loads(line)
        for line in generate(models[0], "--prompts", str(prompts), *DECODE).splitlines()
    ]
    assert [row["prompt"] for row in rows] == ["add", "sub", "add"]
    assert rows[0]["response"] == rows[2]["response"]


@pytest.mark.parametrize("text", [None, "", '{"promt": "add"}\n', '{"prompt": 5}\n'])
def test_a_bad_file_of_prompts_is_explained_without_recipe_keys(
    text: str | None, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    if text is not None:
        prompts.write_text(text)
    with pytest.raises(DataError, match=re.escape(str(prompts))) as caught:
        generate("tiny", "--prompts", str(prompts))
    assert "distill" not in f"{caught.value} {caught.value.hint}"
    assert '{"prompt": ' in str(caught.value.hint)


def test_the_recipe_that_was_found_for_a_model_is_named(models: tuple[str, str]) -> None:
    short = ("--set", "eval.decode={steps: 2, max_new_tokens: 4}")
    for recipe, noted in (((), True), (("--recipe", "tiny"), False)):
        asked = ["generate", models[0], "--prompt", "add", *recipe, *short]
        done = CliRunner().invoke(app, asked)
        assert done.exit_code == 0, done.output
        assert ("decoding with eval.decode of recipe dream_" in done.stderr) is noted


def test_the_help_and_the_readme_say_how_to_choose_a_strategy() -> None:
    text = " ".join(CliRunner().invoke(app, ["generate", "--help"]).stdout.split())
    named = re.search(r"--set eval\.decode\.strategy=(\w+)", text)
    assert named
    assert named.group(1) in plugins.names("decode strategy")
    readme = (FIXTURES.parents[1] / "README.md").read_text(encoding="utf-8")
    assert all(f"\n| `{name}` | " in readme for name in plugins.names("decode strategy"))


def test_generating_imports_no_harness(models: tuple[str, str]) -> None:
    source = """
        import sys
        from tabom_cli.main import app
        app(["generate", *sys.argv[1:]], standalone_mode=False)
        found = [name for name in ("datasets", "lm_eval", "pandas") if name in sys.modules]
        print("imported", found, file=sys.stderr)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), models[0], "--prompt", "add", *DECODE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "imported []" in done.stderr
