"""From a file and `--set` to a recipe: every fault at once, each with its place and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tabom_cli.core.errors import EXIT_USAGE, RecipeError
from tabom_cli.core.recipe import load_recipe, parse_overrides

GOOD = """\
name: mine
model:
  path: tiny
data:
  path: rows.jsonl
objective:
  name: tabom
train:
  epochs: 2
  learning_rate: 1e-4
"""


def write(folder: Path, text: str = GOOD) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def fault_of(path: str, *overrides: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    assert caught.value.exit_code == EXIT_USAGE
    return caught.value


def test_a_small_recipe_gets_every_default(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path)).recipe
    assert (recipe.seed, recipe.train.epochs, recipe.train.learning_rate) == (42, 2, 1e-4)
    assert recipe.lora is not None
    assert (recipe.lora.rank, recipe.lora.target_modules) == (16, ("q_proj", "v_proj"))
    assert recipe.objective.settings.supervision_window == 32  # type: ignore[attr-defined]
    assert recipe.objective.settings.parity == "repaired"  # type: ignore[attr-defined]


def test_the_origin_of_each_value_is_known(tmp_path: Path) -> None:
    loaded = load_recipe(
        write(tmp_path),
        ["train.epochs=3", "lora.rank=4", "eval.decode={steps: 9}", "objective.ties=slot"],
    )
    assert loaded.recipe.train.epochs == 3
    assert loaded.recipe.eval.decode.steps == 9
    assert {
        key: loaded.origins[key]
        for key in (
            *("name", "train.epochs", "train.learning_rate", "train.eps", "lora.rank"),
            *("lora.alpha", "eval.decode.steps", "eval.decode.top_p", "objective.name"),
            *("objective.ties", "objective.parity"),
        )
    } == {
        "name": "recipe",
        "train.epochs": "command line",
        "train.learning_rate": "recipe",
        "train.eps": "default",
        "lora.rank": "command line",
        "lora.alpha": "default",
        "eval.decode.steps": "command line",
        "eval.decode.top_p": "command line",
        "objective.name": "recipe",
        "objective.ties": "command line",
        "objective.parity": "default",
    }
    assert list(loaded.origins)[:2] == ["name", "description"]


def test_values_of_a_preset_name_it_and_a_local_copy_keeps_its_columns() -> None:
    loaded = load_recipe("dream_prm12k", ["distill.prompts.path=copy.jsonl"])
    assert loaded.recipe.distill is not None
    prompts = loaded.recipe.distill.prompts
    assert (prompts.path, prompts.hub) == ("copy.jsonl", None)
    assert (prompts.prompt_column, prompts.reference_column) == ("question", "target")
    assert {
        key: loaded.origins[f"distill.prompts.{key}"]
        for key in ("preset", "path", "hub", "reference_column", "split")
    } == {
        "preset": "recipe",
        "path": "command line",
        "hub": "default",
        "reference_column": "preset mixchain_z_prm12k",
        "split": "default",
    }
    hub = load_recipe("dream_prm12k").origins["distill.prompts.hub"]
    assert hub == "preset mixchain_z_prm12k"


def test_a_resolved_recipe_runs_again_and_is_equal(tmp_path: Path) -> None:
    first = load_recipe("dream_ling_coder", ["seed=7", "data.verdicts=[correct]"])
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(first.recipe.to_dict(), sort_keys=False))
    again = load_recipe(str(path))
    assert again.recipe == first.recipe
    assert again.recipe.training_hash() == first.recipe.training_hash()
    assert set(again.origins.values()) == {"recipe"}


def test_a_later_override_wins_and_a_null_section_can_be_filled(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "lora: null\n")
    assert load_recipe(path).recipe.lora is None
    recipe = load_recipe(path, ["lora.rank=2", "lora.rank=3", "lora.dropout=0.5"]).recipe
    assert recipe.lora is not None
    assert (recipe.lora.rank, recipe.lora.dropout) == (3, 0.5)
    assert load_recipe(write(tmp_path), ["lora=null"]).recipe.lora is None


def test_an_unknown_key_names_its_line_the_nearest_key_and_what_is_allowed(tmp_path: Path) -> None:
    error = fault_of(write(tmp_path, GOOD + "  epoch: 3\n"))
    assert f"{tmp_path}/mine.yaml:11: unknown key 'train.epoch'" in error.message
    assert "did you mean 'epochs'?" in error.message
    assert "allowed: epochs, max_steps, global_batch_size" in error.message
    assert error.hint is not None
    assert "tabom recipes schema" in error.hint


def test_all_faults_come_at_once_each_on_a_line_of_its_own(tmp_path: Path) -> None:
    text = """\
name: mine
name: other
model:
  path: tiny
  dtype: float8
data:
  path: rows.jsonl
  response_length: 0
objective:
  name: tabom
  rank_margin: -1
train:
  epochs: two
  lr: 1e-4
eval:
  tasks: [gsm8k_cod]
  decode: {strategy: entropi}
sed: 3
"""
    lines = fault_of(write(tmp_path, text), "tds.bins=1", "distill.nothing=1").message.splitlines()
    assert lines[0].startswith("recipe ")
    assert lines[0].endswith("mine.yaml has 12 faults:")
    places = {line.strip().split(": ")[0].rsplit("/", 1)[-1] for line in lines[1:]}
    assert places == {
        *("mine.yaml:2", "mine.yaml:5", "mine.yaml:8", "mine.yaml:11", "mine.yaml:13"),
        *("mine.yaml:14", "mine.yaml:16", "mine.yaml:17", "mine.yaml:18"),
        *("--set tds.bins=1", "--set distill.nothing=1"),
    }
    assert len(lines) == 13


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs=two", "train.epochs = 'two': input should be a valid integer"),
        ("train.epochs=2.0", "train.epochs = 2.0: input should be a valid integer"),
        ("train.epochs=true", "train.epochs = True: input should be a valid integer"),
        ("train.epochs=0", "train.epochs = 0: input should be greater than or equal to 1"),
        (
            "train.learning_rate=-1e-4",
            "train.learning_rate = -0.0001: input should be greater than 0",
        ),
        ("train.learning_rate=.nan", "finite number"),
        ("train.learning_rate=.inf", "finite number"),
        ("train.learning_rate='1e-4'", "input should be a valid number"),
        ("train.betas=[0.9]", "train.betas"),
        ("train.precision=fp8", "train.precision = 'fp8': input should be 'bf16' or 'float32'"),
        ("train=3", "train = 3: input should be"),
        (
            "lora.target_modules=q_proj",
            "lora.target_modules = 'q_proj': input should be a valid tuple",
        ),
        ("lora.target_modules=[1]", "lora.target_modules.0 = 1: input should be a valid string"),
        ("lora.dropout=1", "lora.dropout = 1: input should be less than 1"),
        ("model.path=null", "model.path = None: input should be a valid string"),
        ("model=null", "model = None"),
        (
            "objective.parity=original",
            "objective.parity = 'original': input should be 'release' or",
        ),
        ("objective.rank_window=99", "rank_window 99 exceeds supervision_window 32"),
        ("objective=tabom", "'objective.name' is missing"),
        ("objective={}", "'objective.name' is missing"),
        ("objective.name=tabomm", "unknown objective 'tabomm': there are nelbo, tabom"),
        ("objective.name=tabomm", "did you mean 'tabom'?"),
        ("eval.tasks=[gsm8k]", "did you mean 'gsm8k_cot'?"),
        ("eval.tasks=[gsm8k]", "there are arithmetic, countdown"),
        ("tds.task=countdwon", "tds.task: unknown task 'countdwon' (did you mean 'countdown'?)"),
        ("eval.decode.strategy=entropi", "unknown decode strategy 'entropi'"),
        ("eval.decode.strategy=entropi", "did you mean 'entropy'?"),
        ("tds.decode={strategy: maskgit}", "did you mean 'maskgit_plus'?"),
        ("eval.decode.options={nope: 1}", "eval.decode: decode.options.nope"),
        ("eval.decode.block_length=7", "eval.decode: block_length 7 does not divide"),
        ("train.micro_batch_size=5", "train: micro_batch_size 5 does not divide"),
        ("data.generate={tasks: [countdown], num_problems: 3}", "exactly one of path"),
        ("data.generate={tasks: [countdown]}", "'data.generate.num_problems' is missing"),
    ],
)
def test_a_wrong_value_says_what_was_found_and_what_is_allowed(
    tmp_path: Path, override: str, expected: str
) -> None:
    error = fault_of(write(tmp_path), override)
    assert f"--set {override}" in error.message
    assert expected in error.message


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs", "expected key=value"),
        ("=3", "expected key=value"),
        ("train.epochs=[3", "the value is not valid YAML"),
        ("train.epochs=*x", "the value is not valid YAML"),
        ("train.epochs=!!python/name:os.system x", "the value is not valid YAML"),
        ("name.x=3", "'name' is not a section"),
        ("model.path.x=3", "'model.path' is not a section"),
        ("train..epochs=3", "unknown key 'train.'"),
        ("nothing.at.all=3", "unknown key 'nothing'"),
        ("--epochs=3", "unknown key '--epochs'"),
    ],
)
def test_an_override_that_makes_no_sense_is_quoted(
    tmp_path: Path, override: str, expected: str
) -> None:
    message = fault_of(write(tmp_path), override).message
    assert override in message
    assert expected in message


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    message = fault_of(write(tmp_path, "description: nothing else\n")).message
    for key in ("name", "model", "data", "objective"):
        assert f"mine.yaml:1: '{key}' is missing" in message


def test_overrides_are_read_as_yaml() -> None:
    parsed = parse_overrides(["a.b=1e-3", "c=x=y", "d=[1, two]", "e=", " f = null"])
    assert {key: value for key, (value, _) in parsed.items()} == {
        ("a", "b"): 1e-3,
        ("c",): "x=y",
        ("d",): [1, "two"],
        ("e",): None,
        ("f",): None,
    }


def test_a_setting_of_another_objective_is_refused(tmp_path: Path) -> None:
    message = fault_of(write(tmp_path), "objective.name=nelbo", "objective.rank_margin=0.2").message
    assert "unknown key 'objective.rank_margin'" in message
    assert "masking" in message


def test_training_hash_changes_with_what_decides_the_weights_only(tmp_path: Path) -> None:
    path = write(tmp_path)

    def hash_with(*overrides: str) -> str:
        return load_recipe(path, overrides).recipe.training_hash()

    base = hash_with()
    assert base == hash_with()
    same = [
        *("train.launch.num_processes=3", "train.save_every=5", "train.log_every=2"),
        *("train.tracker=wandb", "train.output_dir=elsewhere", "train.micro_batch_size=4"),
        *("description=other words", "eval.limit=3", "tds.bins=9"),
        "distill={prompts: {path: x.jsonl}}",
    ]
    for override in same:
        assert hash_with(override) == base, override
    other = [
        *("seed=1", "train.epochs=3", "train.learning_rate=1e-5", "train.global_batch_size=64"),
        *("train.max_steps=2", "train.precision=float32", "train.validation_fraction=0.1"),
        *("model.dtype=float32", "lora.rank=8", "lora=null", "data.path=other.jsonl"),
        *("data.response_length=9", "objective.rank_margin=0.2", "objective.parity=release"),
        *("name=another", "objective.name=nelbo"),
    ]
    hashes = [hash_with(override) for override in other]
    assert base not in hashes
    assert len(set(hashes)) == len(other)


def test_the_micro_batch_belongs_to_the_hash_of_released_losses(tmp_path: Path) -> None:
    path = write(tmp_path)
    released = ["objective.parity=release"]
    hashes = {
        load_recipe(path, [*released, f"train.micro_batch_size={size}"]).recipe.training_hash()
        for size in (2, 4, 8)
    }
    assert len(hashes) == 3
