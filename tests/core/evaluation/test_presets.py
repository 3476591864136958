from typing import Any

import pytest

from tabom_cli.core import plugins
from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.errors import UsageError
from tabom_cli.core.evaluation.config import EvalConfig
from tabom_cli.core.evaluation.plan import plan_tasks
from tabom_cli.core.evaluation.presets import find_preset, load_presets, override, preset_files
from tabom_cli.core.evaluation.tasks.base import load_task, load_tasks, task_names
from tabom_cli.core.recipe import load_recipe

# (new tokens, steps, block, EOS suppression) by family, profile and task: Table 8 of the paper and
# the release's evaluation scripts.
TABLE = {
    "dream": {
        "gsm8k_cot": {"paper": (256, 256, None), "release": (256, 256, None)},
        "minerva_math500": {"paper": (512, 512, None), "release": (512, 512, None)},
        "mbpp_instruct_dream": {"paper": (1024, 1024, None), "release": (512, 512, None)},
        "humaneval_instruct_dream": {"paper": (768, 768, None), "release": (768, 768, None)},
        "ifeval": {"release": (512, 512, None)},
    },
    "llada": {
        "gsm8k_cot": {"paper": (512, 512, 8), "release": (256, 256, 8)},
        "minerva_math500": {"paper": (512, 512, 64), "release": (512, 512, 64)},
        "mbpp_instruct_dream": {"paper": (256, 256, 256), "release": (256, 256, 256)},
        "humaneval_instruct_dream": {"paper": (512, 512, 512), "release": (512, 512, 512)},
        "ifeval": {"release": (512, 512, 512)},
    },
}
CASES = [
    (family, profile, task, values)
    for family, tasks in TABLE.items()
    for task, profiles in tasks.items()
    for profile, values in profiles.items()
]


@pytest.mark.parametrize(("family", "profile", "task", "values"), CASES)
def test_lengths_are_those_of_the_paper_and_the_release(
    family: str, profile: str, task: str, values: tuple[int, int, int | None]
) -> None:
    preset = find_preset(family, profile, task)
    assert preset is not None
    decode = preset.decode
    assert (decode.max_new_tokens, decode.steps, decode.block_length) == values
    assert preset.num_fewshot == 0
    assert preset.answer_end == "eos"


@pytest.mark.parametrize("profile", ["release", "paper"])
def test_sampling_options_are_those_of_each_family(profile: str) -> None:
    for preset in load_presets("dream", profile).values():
        decode = preset.decode
        assert (decode.temperature, decode.top_p, decode.strategy) == (0.1, 0.9, "entropy")
        assert (decode.schedule, decode.alg_temp, decode.token_pick) == ("time", None, "argmax")
        assert decode.confidence_temperature is None
    expected = {
        "gsm8k_cot": ("low_confidence", "none"),
        "minerva_math500": ("low_confidence", "none"),
        "mbpp_instruct": ("low_confidence", "confidence"),
        "humaneval_instruct": ("low_confidence", "logits"),
        "ifeval": ("entropy", "none"),
    }
    for task, (strategy, suppression) in expected.items():
        preset = find_preset("llada", profile, task)
        assert preset is not None
        assert (preset.decode.strategy, preset.decode.eos_suppression) == (strategy, suppression)
        assert (preset.decode.temperature, preset.decode.schedule) == (0.0, "even")


def test_every_preset_names_a_known_task_and_strategy() -> None:
    names = preset_files()
    assert names == ["dream_paper", "dream_release", "llada_paper", "llada_release"]
    strategies = plugins.names("decode strategy")
    for name in names:
        family, _, profile = name.partition("_")
        for task, preset in load_presets(family, profile).items():
            assert task in task_names()
            assert preset.decode.strategy in strategies
            assert (preset.family, preset.profile, preset.task) == (family, profile, task)


def test_unknown_family_or_profile_lists_what_exists() -> None:
    with pytest.raises(UsageError, match="there are dream_paper") as caught:
        load_presets("dream", "relase")
    assert caught.value.hint == "did you mean dream_release?"


def test_overrides_are_recorded_with_both_values() -> None:
    preset = find_preset("dream", "release", "gsm8k_cot")
    assert preset is not None
    changed, record = override(preset, {"tokens_per_step": 2, "steps": 256})
    assert changed.decode.tokens_per_step == 2
    assert record == {"decode.tokens_per_step": {"preset": None, "used": 2}}
    assert preset.decode.tokens_per_step is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"step": 3}, "unknown decode setting step"), ({"steps": 0}, "decode.steps")],
)
def test_wrong_overrides_are_refused(changes: dict[str, int], message: str) -> None:
    preset = find_preset("dream", "release", "gsm8k_cot")
    assert preset is not None
    with pytest.raises(UsageError, match=message):
        override(preset, changes)


def test_an_override_that_needs_another_one_says_so() -> None:
    preset = find_preset("llada", "release", "humaneval_instruct")
    assert preset is not None
    with pytest.raises(UsageError) as caught:
        override(preset, {"max_new_tokens": 100})
    assert caught.value.message == "decode: block_length 512 does not divide max_new_tokens 100"
    assert caught.value.hint == (
        "set what belongs together; the preset has max_new_tokens 512, steps 512, block_length 512"
    )


def test_a_task_without_preset_is_decoded_as_the_recipe_says() -> None:
    config = EvalConfig(decode=DecodeConfig(steps=7, max_new_tokens=7), max_prompt_length=64)
    (plan,) = plan_tasks([load_task("countdown")], config, family="dream")
    assert plan.decode.steps == 7
    assert (plan.max_prompt_length, plan.answer_end, plan.profile) == (64, "turn", None)
    assert plan.origin() == "the recipe's eval.decode"


def test_no_profile_takes_the_releases_preset_of_each_task() -> None:
    """A recipe of another task must not decide: LLaDA's code tasks need their EOS options."""
    config = load_recipe("llada_prm12k").recipe.eval
    names = ["humaneval_instruct", "humaneval_instruct_dream", "mbpp_instruct", "countdown"]
    plans = {plan.spec.name: plan for plan in plan_tasks(load_tasks(names), config, family="llada")}
    for name, plan in plans.items():
        preset = find_preset("llada", "release", name)
        assert plan.profile == (preset and "release")
        ours = plan.decode.model_dump(exclude={"batch_size"})
        assert ours == (preset or config).decode.model_dump(exclude={"batch_size"})
        assert plan.decode.batch_size == config.decode.batch_size == 8
    assert plans["humaneval_instruct"].decode.eos_suppression == "logits"
    assert plans["mbpp_instruct"].decode.eos_suppression == "confidence"


def test_profile_none_takes_the_recipes_decode() -> None:
    config = EvalConfig(profile="none", decode=DecodeConfig(steps=7, max_new_tokens=7))
    (plan,) = plan_tasks([load_task("gsm8k_cot")], config, family="llada")
    assert (plan.decode.steps, plan.profile, plan.answer_end) == (7, None, "turn")


def test_what_a_recipe_sets_and_the_preset_overrules_is_named() -> None:
    decode = DecodeConfig(steps=8, max_new_tokens=256, batch_size=3)
    config = EvalConfig(decode=decode, max_prompt_length=64)
    (plan,) = plan_tasks([load_task("gsm8k_cot")], config, family="dream")
    assert plan.overruled == {"decode.steps": 8, "max_prompt_length": 64}
    assert (plan.decode.steps, plan.decode.batch_size, plan.overridden) == (256, 3, {})
    text = plan.overruled_text()
    assert text is not None
    assert "decode.steps 8, max_prompt_length 64" in text
    typed = {"steps": 8}
    (plan,) = plan_tasks([load_task("gsm8k_cot")], config, family="dream", overrides=typed)
    assert plan.overruled == {"max_prompt_length": 64}
    assert plan.overridden == {"decode.steps": {"preset": 256, "used": 8}}


@pytest.mark.parametrize(
    "name", ["dream_prm12k", "dream_ling_coder", "llada_prm12k", "llada_ling_coder"]
)
def test_shipped_recipes_decode_their_own_task_as_the_release_does(name: str) -> None:
    config = load_recipe(name).recipe.eval
    (plan,) = plan_tasks(load_tasks(config.tasks), config, family=name.partition("_")[0])
    assert (plan.profile, plan.overruled) == ("release", {})


@pytest.mark.parametrize("profile", [None, "release"])
def test_presets_of_an_unknown_family_are_refused_not_guessed(profile: Any) -> None:
    with pytest.raises(UsageError, match="the family of this checkpoint is not known"):
        plan_tasks([load_task("gsm8k_cot")], EvalConfig(profile=profile), family=None)
    assert plan_tasks([load_task("countdown")], EvalConfig(), family=None)[0].profile is None


def test_a_plan_with_profile_takes_the_familys_preset_and_own_files(tmp_path) -> None:  # type: ignore[no-untyped-def]
    config = EvalConfig(profile="release")
    specs = load_tasks(["gsm8k_cot", "mbpp_instruct_dream"])
    first, second = plan_tasks(specs, config, family="llada", overrides={"threshold": 0.9})
    assert (first.decode.block_length, second.decode.eos_suppression) == (8, "confidence")
    assert first.completions_path(tmp_path) != second.completions_path(tmp_path)
    assert first.settings()["overridden"] == {"decode.threshold": {"preset": None, "used": 0.9}}


def test_a_profile_without_the_task_is_refused() -> None:
    with pytest.raises(UsageError, match="no setting for task 'countdown'"):
        plan_tasks([load_task("countdown")], EvalConfig(profile="paper"), family="dream")


def test_several_samples_need_randomness() -> None:
    config = EvalConfig(num_samples=4)
    with pytest.raises(UsageError, match="would all be equal"):
        plan_tasks([load_task("arithmetic")], config, family="dream")
    random = DecodeConfig(temperature=0.7, token_pick="sample")
    config = config.model_copy(update={"decode": random})
    assert plan_tasks([load_task("arithmetic")], config, family="dream")[0].num_samples == 4
