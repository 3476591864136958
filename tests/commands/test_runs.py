"""Which base an adapter is put on, and `--set model.*` values that a checkpoint leaves no room for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tabom_cli.commands.runs import model_config
from tabom_cli.core.errors import ModelError, TabomError, UsageError
from tabom_cli.core.models.config import LoraConfig, ModelConfig
from tabom_cli.core.models.export import save_model
from tabom_cli.core.models.load import load_model
from tabom_cli.core.recipe import load_recipe
from tabom_cli.main import app

HUB = "Dream-org/Dream-v0-Instruct-7B"
SHORT = ("--recipe", "tiny", "--set", "eval.decode={steps: 8, max_new_tokens: 8, schedule: even}")


def run(*arguments: str) -> str:
    outcome = CliRunner().invoke(app, list(arguments))
    if isinstance(outcome.exception, TabomError):
        raise outcome.exception
    assert outcome.exception is None, outcome.output
    return outcome.stdout


def rename_base(adapter: Path, base: str | None) -> None:
    path = adapter / "adapter_config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "base_model_name_or_path": base}))


@pytest.fixture
def models(tmp_path: Path) -> tuple[str, Path]:
    """A random base, and an adapter on it that changes its answers and names it."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    adapter.mkdir()
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
    return str(base), adapter


def test_a_typed_model_path_is_the_base_of_an_adapter_that_names_the_hub(
    models: tuple[str, Path], tmp_path: Path
) -> None:
    base, adapter = models
    expected = run("generate", str(adapter), "--prompt", "add 1 and 2", *SHORT)
    rename_base(adapter, HUB)
    typed = (*SHORT, "--set", f"model.path={base}")
    assert run("generate", str(adapter), "--prompt", "add 1 and 2", *typed) == expected
    assert run("generate", base, "--prompt", "add 1 and 2", *SHORT) != expected
    for command in (("eval", str(adapter), "countdown"), ("tds", base, str(adapter))):
        run(*command, *typed, "--output", str(tmp_path / command[0]), "--dry-run")
    run("export", str(adapter), str(tmp_path / "plain"), "--base", base)
    assert run("generate", str(tmp_path / "plain"), "--prompt", "add 1 and 2", *SHORT) == expected


def test_a_recipe_alone_does_not_replace_the_base_that_an_adapter_names(
    models: tuple[str, Path],
) -> None:
    base, adapter = models
    config = model_config(str(adapter), load_recipe("tiny"))
    assert (config.path, config.adapter) == (base, str(adapter))
    config = model_config(str(adapter), load_recipe("tiny", [f"model.path={HUB}"]))
    assert (config.path, config.adapter) == (HUB, str(adapter))
    rename_base(adapter, None)
    assert model_config(str(adapter), load_recipe("tiny")).path == "tiny"


def test_a_base_folder_that_is_gone_is_named_with_the_way_to_give_another(
    models: tuple[str, Path], tmp_path: Path
) -> None:
    base, adapter = models
    Path(base).rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"adapter: its base model .*base is not there") as caught:
        run("generate", str(adapter), "--prompt", "add", *SHORT)
    assert "--set model.path=FOLDER" in str(caught.value.hint)
    with pytest.raises(ModelError, match="is not there") as caught:
        run("export", str(adapter), str(tmp_path / "plain"))
    assert "--base PATH" in str(caught.value.hint)
    run("export", str(adapter), str(tmp_path / "plain"), "--base", str(tmp_path / "elsewhere"))
    with pytest.raises(UsageError, match="whole model"):
        run("export", "tiny", str(tmp_path / "other"), "--base", "tiny")


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ("model.path={other}", "model.path=tiny"),
        ("model.adapter={adapter}", "model.adapter="),
        ("model.init=random", "model.init=random"),
        ("model={{path: tiny, init: random}}", "model.path=tiny model.init=random"),
    ],
)
@pytest.mark.parametrize(
    "command", [("generate", "--prompt", "add"), ("eval", "countdown"), ("tds",)]
)
def test_model_settings_that_a_base_leaves_unused_are_refused(
    command: tuple[str, ...], setting: str, shown: str, models: tuple[str, Path]
) -> None:
    name, *rest = command
    typed = setting.format(other="tiny", adapter=models[1])
    with pytest.raises(UsageError, match=f"{shown}.*would change nothing"):
        run(name, models[0], *rest, *SHORT, "--set", typed)


def test_another_adapter_or_random_weights_beside_an_adapter_are_refused(
    models: tuple[str, Path],
) -> None:
    base, adapter = models
    for setting in ("model.adapter=other", "model.init=random"):
        with pytest.raises(UsageError, match=f"{setting} would change nothing"):
            run("generate", str(adapter), "--prompt", "add", *SHORT, "--set", setting)
    same = ("--set", f"model={{path: {base}, adapter: {adapter}}}")
    assert run("generate", str(adapter), "--prompt", "add", *SHORT, *same)
    assert run("generate", base, "--prompt", "add", *SHORT, "--set", f"model.path={base}")
