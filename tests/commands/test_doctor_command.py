"""`tabom doctor`: what it says about versions, weights, tokenizer, data, memory, and its exit code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from tabom_cli.assets import tiny_path
from tabom_cli.core import environment, environment_recipe, sandbox
from tabom_cli.core.environment import check_disk, check_machine, check_sandbox, check_versions
from tabom_cli.core.errors import EXIT_NOT_READY, EXIT_OK, TabomError
from tabom_cli.core.models.config import ModelConfig
from tabom_cli.core.models.export import save_model
from tabom_cli.core.models.footprint import adapter_shapes
from tabom_cli.core.models.load import known_config, load_model
from tabom_cli.main import app


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint of the tiny architecture."""
    folder = tmp_path_factory.mktemp("doctor_base")
    save_model(load_model(ModelConfig(path="tiny", init="random", dtype="float32")), folder)
    return folder


def doctor(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    outcome = CliRunner().invoke(app, ["doctor", *arguments, "--json"])
    if isinstance(outcome.exception, TabomError):
        raise outcome.exception
    report = json.loads(outcome.stdout)
    assert report["ready"] is (outcome.exit_code == EXIT_OK)
    return outcome.exit_code, {check["name"]: check for check in report["checks"]}


def test_every_requirement_of_the_package_is_compared_with_its_own_range() -> None:
    checks = {check.name: check for check in check_versions()}
    for name in ("python", "torch", "transformers", "peft", "pydantic", "safetensors"):
        assert checks[name].status == "pass"
    assert metadata.version("torch") in checks["torch"].detail
    assert "tensorboard" not in checks
    assert "pytest" not in checks


def test_versions_outside_their_range_and_absent_packages_come_with_the_command_that_fixes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = ["torch>=99", "no-such-package-at-all>=1", "numpy>=1; extra == 'never'", "pydantic>=2"]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    checks = {check.name: check for check in check_versions()}
    assert set(checks) == {"python", "torch", "no-such-package-at-all", "pydantic"}
    assert checks["torch"].status == "fail"
    assert checks["torch"].fix == "pip install --upgrade 'torch>=99'"
    assert checks["no-such-package-at-all"].detail.startswith("not installed")
    assert checks["pydantic"].status == "pass"


def test_a_source_tree_that_is_not_installed_is_a_warning() -> None:
    (check,) = check_versions("tabom-that-nobody-installed")
    assert check.status == "warning"
    assert check.fix == "pip install --editable ."


def test_a_missing_sandbox_fails_only_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "why_unavailable", lambda: "user namespaces are off")
    assert check_sandbox(needed=False).status == "warning"
    assert check_sandbox(needed=True).status == "fail"
    assert check_sandbox(needed=True).fix
    assert {check.status for check in check_machine() if check.name == "sandbox"} == {"warning"}


def test_a_full_disk_is_found_before_its_folder_exists(tmp_path: Path) -> None:
    assert check_disk(tmp_path / "not" / "there", needed=1).status == "pass"
    assert check_disk(tmp_path / "not" / "there", needed=2**60).status == "fail"


def test_a_recipe_whose_model_is_here_is_ready_once_its_data_is(base: Path, tmp_path: Path) -> None:
    overrides = ("--set", f"model.path={base}", "--set", f"train.output_dir={tmp_path}")
    overrides += ("--set", "data.more=[]")
    data = tmp_path / "rows.jsonl"
    code, checks = doctor("--recipe", "tiny", *overrides, "--set", f"data.path={data}")
    assert code == EXIT_OK
    assert checks["weights"]["status"] == "pass"
    assert str(base) in checks["weights"]["detail"]
    assert checks["tokenizer"]["status"] == "pass"
    assert checks["memory"]["status"] == "pass"
    assert checks["data"]["status"] == "warning"
    assert checks["data"]["fix"] == "tabom distill --recipe tiny"

    rows = [
        {
            "id": str(n),
            "group_id": str(n),
            "prompt": f"add {n} and 1",
            "response": "2",
            "response_token_ids": [5] * 52,
            "decoding_order": list(range(52)),
            "verdict": "correct",
        }
        for n in range(40)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, checks = doctor("--recipe", "tiny", *overrides, "--set", f"data.path={data}")
    assert code == EXIT_OK, checks
    assert checks["data"]["status"] == "pass"
    assert checks["data"]["detail"].startswith("40 rows")

    data.write_text("no json\n")
    code, checks = doctor("--recipe", "tiny", *overrides, "--set", f"data.path={data}")
    assert code == EXIT_NOT_READY
    assert checks["data"]["status"] == "fail"


@pytest.mark.parametrize("free_gib", [10.0, 20.0])
def test_a_published_model_that_was_not_downloaded_fails_with_the_download_command(
    free_gib: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "free_bytes", lambda path: int(free_gib * 2**30))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    code, checks = doctor("--recipe", "dream_prm12k")
    assert code == EXIT_NOT_READY
    assert checks["weights"]["status"] == "fail"
    assert "14.2 GiB" in checks["weights"]["detail"]
    assert checks["weights"]["fix"].startswith("hf download Dream-org/Dream-v0-Instruct-7B")
    assert checks["tokenizer"]["status"] == "warning"
    assert "not here" in checks["tokenizer"]["detail"]
    assert checks["Hub cache"]["status"] == ("pass" if free_gib > 14.2 else "fail")
    assert f"{free_gib:.1f} GiB free for {tmp_path}, 14.2 GiB" in checks["Hub cache"]["detail"]
    assert checks["data"]["status"] == "fail"
    assert "Google Drive" in checks["data"]["fix"]
    assert checks["prompts"]["status"] == "warning"
    assert "34.1 GiB" in checks["memory"]["detail"]


def test_damaged_weights_and_tokenizers_are_found_without_reading_tensors(
    base: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    source, (check,) = environment_recipe.check_model(ModelConfig(path=str(broken)))
    assert check.status == "fail"
    assert "truncated" in check.detail
    assert "\n" not in check.detail
    assert source is not None

    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "mask_token_id": 9}))
    found = environment_recipe.check_tokenizer(source, ModelConfig(path=str(broken)))
    assert found.status == "fail"
    assert "mask_token_id is 9" in found.detail


def test_options_that_loading_refuses_are_found(base: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    shutil.copytree(base, odd)
    config = json.loads((odd / "config.json").read_text())
    (odd / "config.json").write_text(json.dumps({**config, "use_mrope": True}))
    model = ModelConfig(path=str(odd))
    with pytest.raises(TabomError, match="use_mrope"):
        load_model(model)
    _, (check,) = environment_recipe.check_model(model)
    assert check.status == "fail"
    assert "use_mrope" in check.detail


def test_many_faults_make_a_short_line(base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(base, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "intermediate_size": 640}))
    _, (check,) = environment_recipe.check_model(ModelConfig(path=str(other)))
    assert check.status == "fail"
    assert check.detail.count("config.json asks for") == 2
    assert check.detail.endswith("; and others")


@pytest.mark.parametrize(
    ("shapes_of", "status", "text"),
    [
        ("tiny", "pass", "20 factors fit tiny"),
        ("GSAI-ML/LLaDA-8B-Instruct", "fail", "does not fit tiny (it was trained on GSAI-ML/LLaDA"),
    ],
)
def test_an_adapter_is_compared_with_the_base(
    tmp_path: Path, fixtures: Path, shapes_of: str, status: str, text: str
) -> None:
    published = fixtures / "checkpoints" / "published_adapters" / "llada_prm12k"
    folder = tmp_path / "adapter"
    shutil.copytree(published, folder)
    model = ModelConfig(path="tiny", adapter=str(folder))
    absent = environment_recipe.check_adapter_folder(model)
    assert (absent.status, "file not found" in absent.detail) == ("fail", True)

    values = json.loads((folder / "adapter_config.json").read_text())
    config = known_config(shapes_of)
    assert config is not None
    shapes = adapter_shapes(config, rank=values["r"], target_modules=values["target_modules"])
    # One row each: a header is all that is read, and the shapes of the wrong base would be large.
    factors = {
        name: torch.zeros(shape if shapes_of == "tiny" else (1, 1))
        for name, shape in shapes.items()
    }
    save_file(factors, folder / "adapter_model.safetensors")
    check = environment_recipe.check_adapter_folder(model)
    assert check.status == status
    assert text in check.detail


@pytest.mark.parametrize(
    ("free_gib", "status", "text"),
    [(100.0, "warning", "billion parameters on a CPU"), (20.0, "fail", "34.1 GiB")],
)
def test_memory_is_compared_with_the_estimate(
    free_gib: float, status: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment_recipe, "available_memory", lambda: int(free_gib * 2**30))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    _, checks = doctor("--recipe", "dream_prm12k")
    assert checks["memory"]["status"] == status
    assert text in checks["memory"]["detail"]
    assert "GPU" in checks["memory"]["fix"]


@pytest.mark.parametrize(
    ("free_gib", "checkpointing", "status", "fix"),
    [
        (70.0, "false", "pass", None),
        (37.6, "false", "pass", None),
        (37.4, "false", "warning", "gradient_checkpointing=true"),
        (34.2, "false", "warning", "gradient_checkpointing=true"),
        (34.0, "false", "fail", "gradient_checkpointing=true"),
        (30.0, "false", "fail", "gradient_checkpointing=true"),
        (24.0, "true", "pass", None),
        (10.0, "true", "fail", "the weights alone do not fit"),
    ],
)
def test_gpu_memory_is_compared_with_the_estimate(
    free_gib: float,
    checkpointing: str,
    status: str,
    fix: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tabom_cli.commands.runs import training_sections
    from tabom_cli.core.recipe import load_recipe
    from tabom_cli.core.training.plan import plan_training

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    free = [int(free_gib * 2**30), 75 * 2**30]
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda index: (free[index], 80 * 2**30))
    recipe = load_recipe("dream_prm12k", [f"train.gradient_checkpointing={checkpointing}"]).recipe
    check = environment_recipe.check_memory(
        plan_training(training_sections(recipe), world_size=1), recipe
    )
    assert check.status == status
    assert (fix in (check.fix or "")) if fix else check.fix is None


def test_busy_and_silent_gpus_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def memory(index: int) -> tuple[int, int]:
        if index == 2:
            raise RuntimeError("CUDA error: uncorrectable ECC error")
        return (70 * 2**30, 80 * 2**30) if index == 0 else (5 * 2**30, 80 * 2**30)

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr("torch.cuda.mem_get_info", memory)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda index: "H100")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda index: (9, 0))
    checks = environment.check_devices()
    assert [check.status for check in checks] == ["pass", "warning", "fail", "pass"]
    assert "70.0 of 80.0 GiB" in checks[0].detail
    assert "ECC" in checks[2].detail
    assert "CPU cores" in checks[3].detail


def test_code_tasks_need_the_sandbox_and_others_do_not() -> None:
    from tabom_cli.core.recipe import load_recipe

    assert environment_recipe.needs_sandbox(load_recipe("tiny").recipe)
    plain = load_recipe("tiny", ["eval.tasks=[countdown]"]).recipe
    assert not environment_recipe.needs_sandbox(plain)
    assert not environment_recipe.needs_sandbox(load_recipe("dream_prm12k").recipe)


def test_an_absent_tracker_fails() -> None:
    from importlib.util import find_spec

    if find_spec("wandb") is not None:
        pytest.skip("wandb is installed")
    _, checks = doctor("--recipe", "tiny", "--set", "train.tracker=wandb")
    assert checks["tracker"]["status"] == "fail"
    assert checks["tracker"]["fix"] == "pip install 'tabom[wandb]'"


def test_lines_begin_with_the_status_and_end_with_the_fix(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    shutil.copy(tiny_path() / "config.json", model / "config.json")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tabom_cli.main", "doctor", "--recipe", "tiny"),
            *("--set", f"model.path={model}"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == EXIT_NOT_READY
    lines = done.stdout.splitlines()
    assert all(line.split()[0] in ("pass", "warning", "fail") for line in lines)
    (weights,) = [line for line in lines if line.split()[1] == "weights"]
    assert weights.startswith("fail")
    assert "no weights" in weights
    assert "-> download the checkpoint again" in weights
    assert done.stderr.strip().endswith("2 fail")


def test_overrides_without_a_recipe_are_refused() -> None:
    with pytest.raises(TabomError, match="--set changes a recipe"):
        doctor("--set", "seed=3")
