"""`tabom eval` on a random tiny model: what it writes, shows and refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from tabom_processes import Nursery
from typer.testing import CliRunner

from tabom_cli.assets import tiny_path
from tabom_cli.commands.evaluate import evaluate
from tabom_cli.core.errors import (
    EXIT_INTERRUPTED,
    EXIT_NOT_READY,
    EXIT_USAGE,
    DataError,
    EnvironmentNotReady,
    RunError,
    TabomError,
    UsageError,
)
from tabom_cli.core.evaluation.preview import SHOWN_LINES
from tabom_cli.core.evaluation.sweep import sweep_table

SHORT = ["--recipe", "tiny", "--set", "eval.decode={steps: 4, max_new_tokens: 8, batch_size: 4}"]
SAMPLED = [
    *("--recipe", "tiny", "--set"),
    "eval.decode={steps: 4, max_new_tokens: 8, temperature: 1.0, token_pick: sample, "
    "confidence_temperature: 1.0}",
]

app = typer.Typer()
app.command("eval")(evaluate)


def run(*arguments: str | Path) -> tuple[str, str]:
    """Standard output and error of the command; its TabomError is raised."""
    outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(outcome.exception, TabomError):
        raise outcome.exception
    assert outcome.exception is None, outcome.output
    return outcome.stdout, outcome.stderr


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())["tasks"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A random base, and a training run on it with two epochs and a final adapter."""
    from tabom_cli.core.models.config import LoraConfig, ModelConfig
    from tabom_cli.core.models.load import load_model

    base, folder = (tmp_path_factory.mktemp(name) for name in ("base", "run"))
    torch.manual_seed(0)
    model = load_model(ModelConfig(path="tiny", init="random", dtype="float32"))
    with torch.no_grad():
        model.network.lm_head.weight.mul_(30)  # type: ignore[union-attr,operator]
    model.network.save_pretrained(base)  # type: ignore[operator]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_path() / name, base / name)
    tuned = load_model(ModelConfig(path=str(base), dtype="float32"), lora=LoraConfig(rank=2))
    for name in ("epoch_1", "epoch_2", "final"):
        if name != "final":
            with torch.no_grad():
                for key, weight in tuned.network.named_parameters():
                    if "lora_B" in key:
                        weight.normal_(0, 0.3)
        tuned.network.save_pretrained(folder / name)  # type: ignore[operator]
    (folder / "manifest.json").write_text("{}")
    return base, folder


@pytest.fixture(scope="module")
def scored(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the base on two tasks."""
    folder = tmp_path_factory.mktemp("scored")
    run(models[0], "countdown", "arithmetic", *SHORT, "--limit", "6", "--output", folder)
    return folder


def test_tasks_of_a_recipe_share_one_pair_of_files(scored: Path) -> None:
    names = sorted(path.name for path in scored.iterdir() if not path.name.startswith("."))
    assert names == [
        *("completions.jsonl", "previews.txt", "requests.jsonl", "results.json"),
        *("samples_arithmetic.jsonl", "samples_countdown.jsonl"),
    ]
    found = results(scored)
    assert list(found) == ["countdown", "arithmetic"]
    entry = found["countdown"]
    assert (entry["num_total"], entry["interval_kind"]) == (6, "wilson")
    assert entry["decode"]["steps"] == 4
    document = json.loads((scored / "results.json").read_text())
    decoding = sum(entry["cost"]["decoding_time_s"] for entry in found.values())
    assert decoding < document["wall_time_s"] < 600
    assert entry["base_hash"]
    assert entry["adapter_hash"] is None


def test_the_same_command_again_answers_nothing_new(
    models: tuple[Path, Path], scored: Path
) -> None:
    before = (scored / "completions.jsonl").read_bytes()
    arguments = ("countdown", "arithmetic", *SHORT, "--limit", "6", "--output", scored)
    stdout, stderr = run(models[0], *arguments)
    assert "0 new answers" in stderr
    assert (scored / "completions.jsonl").read_bytes() == before
    assert stdout.strip().splitlines()[-1] == str(scored / "results.json")


def test_ctrl_c_says_how_many_answers_are_kept_and_how_to_go_on(
    models: tuple[Path, Path], tmp_path: Path, nursery: Nursery
) -> None:
    decode = "eval.decode={steps: 128, max_new_tokens: 128, batch_size: 1}"
    arguments = [str(models[0]), "countdown", "--recipe", "tiny", "--set", decode]
    arguments += ["--limit", "60", "--output", str(tmp_path)]
    run(*arguments, "--phase", "requests")
    command = nursery.start("eval", *arguments, "--phase", "generate", cwd=tmp_path)
    path = tmp_path / "completions.jsonl"
    command.wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") >= 4)
    command.signal(signal.SIGINT)
    stopped = command.wait()
    assert stopped.code == EXIT_INTERRUPTED
    kept = path.read_bytes().count(b"\n") - 1
    assert 3 <= kept < 60
    assert f"Error: interrupted: {kept} of 60 answers are kept\n" in stopped.stderr
    assert "Hint: the same command continues\n" in stopped.stderr
    assert "Traceback" not in stopped.stderr


def test_a_long_prompt_is_shown_by_its_ends_and_kept_whole(
    models: tuple[Path, Path], fixtures: Path, tmp_path: Path
) -> None:
    _, stderr = run(
        *(models[0], "gsm8k_cot", *SHORT, "--profile", "none", "--set", "eval.num_fewshot=8"),
        *("--set", "eval.max_prompt_length=4000", "--data-dir", fixtures / "benchmarks"),
        *("--limit", "1", "--output", tmp_path),
    )
    (hidden,) = re.findall(r"\.\.\. (\d+) lines, see previews.txt \.\.\.", stderr)
    whole = (tmp_path / "previews.txt").read_text()
    shown = stderr[stderr.index("gsm8k_cot problem 0, prompt:") :]
    assert len(whole.splitlines()) > int(hidden) + 2 * SHOWN_LINES
    assert whole.splitlines()[:13] == shown.splitlines()[:13]
    assert "extracted: " in whole
    assert "extracted: " in shown


def test_two_prompts_with_extracted_answers_are_shown_before_the_run(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    _, stderr = run(models[0], "countdown", *SHORT, "--limit", "5", "--output", tmp_path / "o")
    assert stderr.count("<|im_start|>assistant") == 2
    assert stderr.count("extracted: ") == 2
    assert stderr.index("extracted: ") < stderr.index("generate 5/5")


def test_phases_can_run_one_by_one_and_agree_with_one_run(
    models: tuple[Path, Path], scored: Path, tmp_path: Path
) -> None:
    arguments = ("countdown", "arithmetic", *SHORT, "--limit", "6", "--output", tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        run(models[0], *arguments, "--phase", "generate")
    run(models[0], *arguments, "--phase", "requests")
    run(models[0], *arguments, "--phase", "generate")
    run(models[0], *arguments, "--phase", "score")
    assert (tmp_path / "requests.jsonl").read_bytes() == (scored / "requests.jsonl").read_bytes()
    for task, entry in results(tmp_path).items():
        assert entry["value"] == results(scored)[task]["value"]
        name = f"samples_{task}.jsonl"
        assert (tmp_path / name).read_bytes() == (scored / name).read_bytes()


def test_answers_are_not_scored_under_settings_that_did_not_make_them(
    models: tuple[Path, Path], fixtures: Path, tmp_path: Path
) -> None:
    common = (models[0], "gsm8k_cot", "--recipe", "tiny", "--limit", "2", "--output", tmp_path)
    common = (*common, "--data-dir", fixtures / "benchmarks")
    short = ("--set", "eval.decode.max_new_tokens=8", "--set", "eval.decode.steps=8")
    made = (*common, "--profile", "paper", "--tokens-per-step", "2", *short)
    run(*made, "--phase", "requests")
    run(*made, "--phase", "generate")
    with pytest.raises(RunError, match="steps 8 against 256") as caught:
        run(*common, "--profile", "release", "--phase", "score")
    assert "decode.tokens_per_step 2 against None" in caught.value.message
    assert not (tmp_path / "results.json").exists()
    run(*made, "--phase", "score")
    settings = results(tmp_path)["gsm8k_cot"]["settings"]
    assert settings["profile"] == "paper"
    assert settings["overridden"]["decode.steps"] == {"preset": 256, "used": 8}


def test_the_generate_phase_imports_no_harness(models: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = [str(models[0]), "countdown", *SHORT, "--limit", "2", "--output", str(tmp_path)]
    run(*arguments, "--phase", "requests")
    program = (
        "import sys\n"
        "for name in ('lm_eval', 'datasets', 'pandas'):\n"
        "    sys.modules[name] = None\n"
        f"sys.argv = ['tabom', 'eval', *{arguments!r}, '--phase', 'generate']\n"
        "from tabom_cli.main import run\n"
        "run()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "completions.jsonl").read_text().splitlines()) == 3


def test_listing_is_quick_and_needs_neither_torch_nor_the_harness() -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'lm_eval', 'datasets', 'transformers'):\n"
        "    sys.modules[name] = None\n"
        "sys.argv = ['tabom', 'eval', '--list']\n"
        "from tabom_cli.main import run\n"
        "run()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "gsm8k_cot" in done.stdout
    assert "EOS suppressed (confidence)" in done.stdout


def test_profiles_pick_settings_by_family_and_record_what_was_overridden(
    models: tuple[Path, Path], fixtures: Path, tmp_path: Path
) -> None:
    stdout, stderr = run(
        *(models[0], "gsm8k_cot", "--recipe", "tiny", "--profile", "release", "--limit", "2"),
        *("--set", "eval.decode.max_new_tokens=8", "--set", "eval.decode.steps=8"),
        *("--tokens-per-step", "2", "--set", "eval.max_prompt_length=512"),
        *("--data-dir", fixtures / "benchmarks", "--output", tmp_path),
    )
    entry = results(tmp_path)["gsm8k_cot"]
    assert (entry["decode"]["top_p"], entry["decode"]["temperature"]) == (0.9, 0.1)
    assert (entry["answer_end"], entry["max_prompt_length"]) == ("eos", 512)
    assert entry["settings"]["profile"] == "release"
    assert entry["settings"]["overridden"] == {
        "decode.max_new_tokens": {"preset": 256, "used": 8},
        "decode.steps": {"preset": 256, "used": 8},
        "decode.tokens_per_step": {"preset": None, "used": 2},
        "max_prompt_length": {"preset": 1024, "used": 512},
    }
    assert "[2 tokens/step]" in stdout.splitlines()[0]
    assert "profile 'release' with " in stderr
    assert "decode.max_new_tokens 8 instead of 256" in stderr


def test_llada_code_is_decoded_with_its_eos_options_unless_told_otherwise() -> None:
    arguments = ("GSAI-ML/LLaDA-8B-Instruct", "humaneval_instruct", "--dry-run")
    shown = " ".join(run(*arguments)[0].split())
    assert "low_confidence 512/512, block 512, EOS suppressed (logits), T=0" in shown
    assert "(profile 'release')" in shown
    assert "not used of the recipe: decode.steps 256" in shown
    shown = " ".join(run(*arguments, "--profile", "none")[0].split())
    assert "low_confidence 256/256, block 8, T=0 (the recipe's eval.decode)" in shown


def test_what_decides_the_decode_is_said_before_anything_is_answered(
    models: tuple[Path, Path], fixtures: Path, tmp_path: Path
) -> None:
    _, stderr = run(
        *(models[0], "gsm8k_cot", "countdown", "--recipe", "tiny", "--limit", "1"),
        *("--set", "eval.decode.max_new_tokens=8", "--set", "eval.decode.steps=8"),
        *("--data-dir", fixtures / "benchmarks", "--output", tmp_path),
    )
    began = stderr[: stderr.index("<|im_start|>assistant")]
    assert "gsm8k_cot: entropy 8/8, T=0.1 (profile 'release')" in began
    assert "countdown: entropy 8/8, T=0 (the recipe's eval.decode)" in began
    assert results(tmp_path)["gsm8k_cot"]["settings"]["profile"] == "release"
    assert results(tmp_path)["countdown"]["settings"]["profile"] is None


def test_settings_of_another_family_are_refused(
    small_llada: Path, fixtures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a Hub name's config is not on this machine and the recipe's family is taken."""
    from tabom_cli.core.models import source

    unknown = source.CheckpointInfo("base", str(small_llada), str(small_llada), None)
    known = source.inspect_checkpoint
    monkeypatch.setattr(
        source, "inspect_checkpoint", lambda p: unknown if p == str(small_llada) else known(p)
    )
    with pytest.raises(UsageError, match=r"is of family 'llada'.*picked for 'dream'"):
        run(
            *(small_llada, "gsm8k_cot", "--recipe", "tiny", "--limit", "1"),
            *("--data-dir", fixtures / "benchmarks", "--output", tmp_path / "o"),
        )


def test_several_samples_give_pass_at_k(models: tuple[Path, Path], tmp_path: Path) -> None:
    _, stderr = run(
        *(models[0], "countdown", *SAMPLED, "--limit", "3", "--num-samples", "4"),
        *("--output", tmp_path),
    )
    entry = results(tmp_path)["countdown"]
    assert (entry["num_problems"], entry["num_samples"], entry["num_total"]) == (3, 4, 12)
    assert list(entry["pass_at"]) == ["1", "2", "4"]
    first = entry["pass_at"]["1"]
    assert first["value"] == pytest.approx(entry["value"])
    assert first["interval_95"] == pytest.approx(entry["interval_95"])
    assert first["interval_kind"] == entry["interval_kind"]
    assert "pass@4" in stderr
    texts = [json.loads(line)["text"] for line in (tmp_path / "samples_countdown.jsonl").open()]
    assert len(set(texts[:4])) > 1


def test_several_greedy_samples_are_refused(models: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="would all be equal"):
        run(models[0], "countdown", *SHORT, "--num-samples", "2", "--output", tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_seed_changes_sampled_answers_and_is_recorded(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    texts = []
    for seed in ("3", "4", "3"):
        folder = tmp_path / f"s{len(texts)}"
        run(models[0], "countdown", *SAMPLED, "--limit", "3", "--seed", seed, "--output", folder)
        assert results(folder)["countdown"]["seed"] == int(seed)
        texts.append((folder / "samples_countdown.jsonl").read_text())
    assert texts[0] == texts[2] != texts[1]


def test_compare_shows_the_paired_difference(
    models: tuple[Path, Path], scored: Path, tmp_path: Path
) -> None:
    run(models[1] / "final", "countdown", *SHORT, "--limit", "6", "--output", tmp_path)
    stdout, _ = run("--compare", scored, tmp_path)
    mode = "[2 tokens/step planned]"
    title = (
        f"{tmp_path} ({models[0]} + {models[1] / 'final'} {mode}) "
        f"against {scored} ({models[0]} {mode})"
    )
    assert title in " ".join(stdout.split())
    assert "countdown" in stdout
    with pytest.raises(DataError, match="no such file"):
        run("--compare", scored, tmp_path / "nowhere")


def test_comparing_different_problems_is_refused(
    models: tuple[Path, Path], scored: Path, tmp_path: Path
) -> None:
    run(models[0], "countdown", *SHORT, "--limit", "2", "--output", tmp_path)
    with pytest.raises(DataError, match="answered different prompts"):
        run("--compare", scored, tmp_path)


def test_a_sweep_reports_final_and_best_epoch_apart(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    stdout, stderr = run(
        *(models[1], "--epochs", "1,2", "--tasks", "countdown", *SHORT, "--limit", "4"),
        *("--output", tmp_path),
    )
    assert stdout.strip().splitlines()[-1] == str(tmp_path / "sweep.json")
    assert "report: final" in stdout
    assert "best of 2" in stdout
    assert "a selection, not an estimate" in stderr
    document = json.loads((tmp_path / "sweep.json").read_text())
    task = document["tasks"]["countdown"]
    assert list(task["values"]) == ["epoch_1", "epoch_2", "final"]
    assert task["final"] == task["values"]["final"] == task["values"]["epoch_2"]
    hashes = [results(tmp_path / n)["countdown"]["adapter_hash"] for n in task["values"]]
    assert hashes[0] != hashes[1] == hashes[2]
    bases = {results(tmp_path / n)["countdown"]["base_hash"] for n in task["values"]}
    assert len(bases) == 1


def test_a_sweep_names_its_decode_and_a_checkpoint_with_another(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    values = ("--tasks", "countdown", *SHORT, "--limit", "2", "--output", tmp_path)
    stdout, _ = run(models[1], "--epochs", "1,2", "--tokens-per-step", "2", *values)
    assert f"{tmp_path} [2 tokens/step]: scores in percent" in stdout
    assert "entropy 8/4, 2 tokens/step" in stdout
    task = json.loads((tmp_path / "sweep.json").read_text())["tasks"]["countdown"]
    assert (task["decode"]["tokens_per_step"], task["differing"]) == (2, [])
    path = tmp_path / "epoch_2/results.json"
    document = json.loads(path.read_text())
    document["tasks"]["countdown"]["decode"]["tokens_per_step"] = 4
    path.write_text(json.dumps(document))
    table = sweep_table({n: tmp_path / n for n in ("epoch_1", "epoch_2")}, title="sweep")
    assert table.title.startswith("sweep [2 tokens/step | 4 tokens/step]")
    assert table.notes[1:] == (
        "countdown: epoch_2 has decode.tokens_per_step 4 against 2 of epoch_1",
    )


@pytest.mark.parametrize(
    ("epochs", "message"),
    [("1,7", "has no epoch 7, only 1, 2"), ("one", "not numbers")],
)
def test_epochs_that_do_not_exist_are_refused(
    models: tuple[Path, Path], epochs: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run(models[1], "--epochs", epochs, *SHORT)


def test_epochs_of_something_that_is_no_run_are_refused(models: tuple[Path, Path]) -> None:
    with pytest.raises(RunError, match="no epochs"):
        run(models[0], "--epochs", "1", *SHORT)


def test_answers_of_two_models_are_never_mixed_even_for_other_tasks(
    models: tuple[Path, Path], scored: Path
) -> None:
    before = (scored / "results.json").read_bytes()
    with pytest.raises(RunError, match="holds answers of other weights"):
        run(models[1] / "epoch_1", "arithmetic", *SHORT, "--limit", "2", "--output", scored)
    assert (scored / "results.json").read_bytes() == before


def test_a_half_written_results_file_loses_nothing(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    arguments = (models[0], "countdown", *SHORT, "--limit", "3", "--output", tmp_path)
    run(*arguments)
    whole = results(tmp_path)
    path = tmp_path / "results.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(DataError, match="damaged") as caught:
        run("--compare", tmp_path, tmp_path)
    assert caught.value.hint is not None
    assert "same command" in caught.value.hint
    _, stderr = run(*arguments)
    assert "0 new answers" in stderr
    assert "kept as results.json.old1" in stderr
    assert results(tmp_path)["countdown"]["value"] == whole["countdown"]["value"]
    assert (tmp_path / "results.json.old1").stat().st_size == 100


def test_a_list_of_tasks_may_hold_spaces_and_empty_places(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    values = ("--tasks", "countdown, ,arithmetic,", *SHORT, "--dry-run", "--output", tmp_path)
    stdout, _ = run(models[0], *values)
    assert "countdown" in stdout
    assert "arithmetic" in stdout
    with pytest.raises(UsageError, match="--tasks ,: no task"):
        run(models[0], "--tasks", ",", *SHORT)


def test_a_task_in_the_place_of_the_checkpoint_is_noticed() -> None:
    with pytest.raises(UsageError, match="'gsm8k_cot' is a task; no checkpoint") as caught:
        run("gsm8k_cot")
    assert caught.value.hint == "tabom eval CKPT gsm8k_cot"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gsm8k"], "unknown task 'gsm8k'"),
        (["hellaswag"], "'hellaswag' needs log-likelihoods"),
        (["countdown", "--profile", "paper"], "has no setting for task 'countdown'"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_is_written(
    models: tuple[Path, Path], tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        run(models[0], *arguments, *SHORT, "--output", tmp_path / "o")
    assert caught.value.exit_code == EXIT_USAGE
    assert not (tmp_path / "o").exists()


def test_code_needs_consent_before_the_model_loads(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    no = ("--set", "eval.allow_code_execution=false")
    with pytest.raises(UsageError, match="runs code that the model wrote"):
        run(models[0], "functions", *SHORT, *no, "--output", tmp_path)
    assert not (tmp_path / "requests.jsonl").exists()


def test_code_without_a_sandbox_is_refused_with_exit_code_3(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tabom_cli.core.sandbox.why_unavailable", lambda: "no user namespaces")
    with pytest.raises(EnvironmentNotReady, match="no user namespaces") as caught:
        run(models[0], "functions", *SHORT, "--output", tmp_path)
    assert caught.value.exit_code == EXIT_NOT_READY
    run(models[0], "countdown", *SHORT, "--limit", "2", "--output", tmp_path)


def test_dry_run_says_what_it_would_do_and_writes_nothing(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    stdout, _ = run(
        *(models[0], "gsm8k_cot", "--recipe", "tiny", "--profile", "release", "--dry-run"),
        *("--tokens-per-step", "2", "--set", "eval.limit=null", "--output", tmp_path / "o"),
    )
    assert "1,319 answers" in stdout
    assert "decode.tokens_per_step is 2, profile 'release' has None" in stdout
    assert str(tmp_path / "o/completions_gsm8k_cot.jsonl") in stdout
    assert not (tmp_path / "o").exists()


def test_two_processes_give_the_samples_of_one(
    models: tuple[Path, Path], scored: Path, tmp_path: Path
) -> None:
    arguments = ["eval", str(models[0]), "countdown", "arithmetic", *SHORT, "--limit", "6"]
    command = [sys.executable, "-m", "tabom_cli.main", *arguments, "--output", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, "--num-processes", "2"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    shards = sorted(path.name for path in tmp_path.glob("completions*"))
    assert shards == ["completions.rank0of2.jsonl", "completions.rank1of2.jsonl"]
    for task in ("countdown", "arithmetic"):
        name = f"samples_{task}.jsonl"
        assert (tmp_path / name).read_bytes() == (scored / name).read_bytes()
    assert done.stdout.strip().splitlines()[-1] == str(tmp_path / "results.json")


@pytest.fixture
def small_llada(tmp_path: Path) -> Path:
    """A LLaDA of small shape with random weights and the embedded tokenizer."""
    from safetensors.torch import save_file

    from tabom_cli.core.models.footprint import parameter_shapes

    tiny = json.loads((tiny_path() / "config.json").read_text())
    names = ("vocab_size", "mask_token_id", "pad_token_id", "eos_token_id")
    config = {name: tiny[name] for name in names} | {
        "model_type": "llada",
        "architectures": ["LLaDAModelLM"],
        "embedding_size": tiny["vocab_size"],
        "d_model": 32,
        "mlp_hidden_size": 48,
        "n_layers": 2,
        "n_heads": 4,
        "n_kv_heads": 4,
        "rope_theta": 10000.0,
        "weight_tying": False,
    }
    folder = tmp_path / "llada"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(shape, generator=generator) * 0.3
        for name, shape in parameter_shapes(config).items()
    }
    save_file(weights, folder / "model.safetensors")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_path() / name, folder / name)
    return folder


def test_a_small_llada_takes_its_own_presets(
    small_llada: Path, fixtures: Path, tmp_path: Path
) -> None:
    _, stderr = run(
        *(small_llada, "gsm8k_cot", "minerva_math500", "ifeval", "--recipe", "tiny"),
        *("--profile", "release", "--set", "eval.decode.max_new_tokens=8"),
        *("--set", "eval.decode.steps=8", "--set", "eval.decode.block_length=8"),
        *("--limit", "2", "--data-dir", fixtures / "benchmarks", "--output", tmp_path / "o"),
    )
    assert "instead of 256 (the paper lists 512/512)" in " ".join(stderr.split())
    found = results(tmp_path / "o")
    strategies = {task: entry["decode"]["strategy"] for task, entry in found.items()}
    assert strategies == {
        "gsm8k_cot": "low_confidence",
        "minerva_math500": "low_confidence",
        "ifeval": "entropy",
    }
    assert {entry["family"] for entry in found.values()} == {"llada"}
    assert "nltk" in found["ifeval"]["remarks"]["sentence splitter"]
    assert "decode.block_length" not in found["gsm8k_cot"]["settings"]["overridden"]
    assert found["ifeval"]["settings"]["overridden"]["decode.block_length"]["preset"] == 512
