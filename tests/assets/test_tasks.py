"""The embedded tasks: right answers pass, changed ones fail, splits are apart, ids stay."""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter

import pytest

from tabom_cli.assets import tasks
from tabom_cli.assets.tasks import Program, check, countdown, is_parsable, problems, split_of
from tabom_cli.core.errors import DataError, UsageError
from tabom_cli.core.sandbox import Limits, run_python, why_unavailable

TASKS = ("countdown", "arithmetic", "functions")
SPLITS = ("train", "validation", "test")
FROZEN_IDS = [
    "countdown-53af166d200ed5d7",
    "arithmetic-7073110159552740",
    "functions-c8fdfcaba76fc45b",
]
FROZEN_PROMPT = "Make 15 from 7, 14, 6."
needs_sandbox = pytest.mark.skipif(
    why_unavailable() is not None, reason=f"no sandbox here: {why_unavailable()}"
)


@pytest.mark.parametrize("task", ["countdown", "arithmetic"])
@pytest.mark.parametrize("split", SPLITS)
def test_every_generated_answer_passes_its_own_check(task: str, split: str) -> None:
    for problem in problems([task], split=split, num_problems=2000):
        assert check(task, problem.answer, problem.reference) is True, problem
        assert is_parsable(task, problem.answer)


def _ran(program: str) -> bool:
    return run_python(program, limits=Limits(time_s=10)).status == "ok"


@needs_sandbox
def test_every_generated_function_passes_its_own_program() -> None:
    found = problems(["functions"], split="test", num_problems=300)
    # Each program in a module namespace of its own; 300 separate sandboxes would take 15 s.
    programs = [check("functions", problem.answer, problem.reference) for problem in found]
    sources = [program.source for program in programs if isinstance(program, Program)]
    assert len(sources) == 300
    runner = f"for source in {sources!r}:\n    exec(source, {{}})\nprint('all')"
    assert run_python(runner).stdout == "all\n"
    assert all(_ran(source) for source in sources[:5])


@needs_sandbox
def test_functions_of_other_problems_and_changed_numbers_fail() -> None:
    found = problems(["functions"], split="train", num_problems=200)
    changed = []
    for problem in found:
        numbers = list(re.finditer(r"\d+", problem.answer))
        if not numbers:
            continue
        last = numbers[-1]
        other = problem.answer[: last.start()] + str(int(last.group()) + 1)
        program = check("functions", other + problem.answer[last.end() :], problem.reference)
        assert isinstance(program, Program)
        changed.append(program.source)
    runner = (
        "passed = 0\n"
        f"for source in {changed!r}:\n    try:\n        exec(source, {{}})\n        passed += 1\n"
        "    except Exception:\n        pass\nprint(passed)"
    )
    result = run_python(runner)
    # Not every change matters to every input: a larger bound of a slice, a threshold between samples.
    assert int(result.stdout) < 0.2 * len(changed)
    assert len(changed) > 150


def test_the_tests_of_a_function_hold_more_than_one_value() -> None:
    found = problems(["functions"], split="train", num_problems=500)
    values = [
        {test.partition("==")[2] for test in json.loads(problem.reference)["tests"]}
        for problem in found
    ]
    assert sum(len(seen) > 1 for seen in values) > 490


@pytest.mark.parametrize(
    ("response", "is_right"),
    [
        ("8 * 3 = 24, 24 + 5 = 29", True),
        ("3*8=24\n5+24=29", True),
        ("8 * 3 = 24; 24 + 5 = 29.", True),
        ("5 + 24 = 29", False),  # 24 is not there yet
        ("8 * 3 = 24, 24 + 5 = 30", False),  # wrong sum
        ("8 * 3 = 24, 24 + 4 = 28", False),  # 4 was not given
        ("8 * 3 = 24, 3 + 24 = 27, 24 + 5 = 29", False),  # 3 and 24 used twice
        ("24 + 5 = 29, 8 * 3 = 24", False),  # order
        ("8 * 3 = 24", False),
        ("29", False),
        ("", False),
        ("8 * 3 = 24, 24 + 5 = 29, ", False),
        ("8 ** 3 = 24", False),
        ("8 * 3 = 24, 24 + 5 = 29 = 29", False),
    ],
)
def test_countdown_check_by_hand(response: str, is_right: bool) -> None:
    reference = json.dumps({"numbers": [3, 5, 8], "target": 29})
    assert check("countdown", response, reference) is is_right


def test_countdown_knows_exact_division_and_negative_numbers_only_when_right() -> None:
    reference = json.dumps({"numbers": [12, 4, 5, 6], "target": 2})
    assert check("countdown", "12 / 4 = 3, 5 - 3 = 2", reference) is True
    assert check("countdown", "12 / 5 = 2", reference) is False
    assert check("countdown", "4 - 5 = -1, -1 + 6 = 5", reference) is False
    assert check("countdown", "4 - 6 = -2, 12 + -2 = 10, 10 / 5 = 2", reference) is True
    zero = json.dumps({"numbers": [4, 4, 7], "target": 0})
    assert check("countdown", "4 - 4 = 0, 7 / 0 = 0", zero) is False


def test_countdown_mutations_fail_unless_they_are_derivations_again() -> None:
    rng = random.Random(5)
    for problem in problems(["countdown"], split="train", num_problems=500):
        digits = [i for i, character in enumerate(problem.answer) if character.isdigit()]
        place = rng.choice(digits)
        new = str((int(problem.answer[place]) + rng.randint(1, 9)) % 10)
        mutated = problem.answer[:place] + new + problem.answer[place + 1 :]
        assert check("countdown", mutated, problem.reference) is False, (problem, mutated)


def test_countdown_answers_differ_in_number_of_steps() -> None:
    found = problems(["countdown"], split="train", num_problems=400)
    steps = {problem.answer.count("=") for problem in found}
    assert steps == {2, 3}
    for problem in found:
        given = json.loads(problem.reference)
        assert problem.answer.count("=") == len(given["numbers"]) - 1
        assert 10 <= given["target"] <= countdown.LARGEST_TARGET


@pytest.mark.parametrize(
    ("response", "is_right"),
    [
        ("3 + 4 = 7. The answer is 7", True),
        ("The answer is 8. The answer is 7.", True),
        ("the answer is: $7", True),
        ("The answer is 77", False),
        ("The answer is -7", False),
        ("The answer is 7. The answer is 8.", False),
        ("7", False),
        ("The answer is " + "9" * 10_000, False),
    ],
)
def test_arithmetic_check_by_hand(response: str, is_right: bool) -> None:
    assert check("arithmetic", response, "7") is is_right


def test_arithmetic_working_is_right_and_leads_to_the_answer() -> None:
    for problem in problems(["arithmetic"], split="validation", num_problems=1000):
        working, _, final = problem.answer.partition(". The answer is ")
        steps = working.split(", ")
        assert 2 <= len(steps) <= 4
        for step in steps:
            left, operator, right, _, result = step.split()
            value = {
                "+": int(left) + int(right),
                "-": int(left) - int(right),
                "*": int(left) * int(right),
                "/": int(left) / int(right),
            }[operator]
            assert value == int(result)
        assert steps[-1].split()[-1] == final == problem.reference


def test_splits_share_no_prompt_and_no_problem_under_other_words() -> None:
    found = {
        split: problems(TASKS, split=split, num_problems=6000, seed=seed)
        for seed, split in ((0, "train"), (1, "validation"), (2, "test"))
    }
    prompts = {split: {problem.prompt for problem in rows} for split, rows in found.items()}
    assert not prompts["train"] & prompts["validation"]
    assert not prompts["train"] & prompts["test"]
    assert not prompts["validation"] & prompts["test"]
    keys = {
        split: {
            (tuple(sorted(given["numbers"])), given["target"])
            for problem in rows
            if problem.task == "countdown"
            for given in [json.loads(problem.reference)]
        }
        for split, rows in found.items()
    }
    assert not keys["train"] & keys["test"]
    assert not keys["train"] & keys["validation"]


def test_split_shares_are_eight_one_one() -> None:
    counts = {split: 0 for split in SPLITS}
    for number in range(10_000):
        counts[split_of("countdown", str(number))] += 1
    assert counts["train"] == pytest.approx(8000, abs=200)
    assert counts["validation"] == pytest.approx(1000, abs=150)
    assert counts["test"] == pytest.approx(1000, abs=150)


def test_no_prompt_comes_twice_and_tasks_take_turns() -> None:
    found = problems(TASKS, split="train", num_problems=9001)
    assert len({problem.prompt for problem in found}) == 9001
    assert [problem.task for problem in found[:4]] == [*TASKS, "countdown"]
    assert len({problem.id for problem in found}) == 9001


def test_same_seed_gives_the_same_and_a_longer_list_starts_with_the_shorter() -> None:
    short = problems(TASKS, split="test", num_problems=50, seed=3)
    assert problems(TASKS, split="test", num_problems=80, seed=3)[:50] == short
    other = problems(TASKS, split="test", num_problems=50, seed=4)
    assert {problem.id for problem in other} != {problem.id for problem in short}


def test_id_is_a_function_of_the_prompt() -> None:
    rows = [
        problem
        for seed in range(4)
        for problem in problems(["functions"], split="test", num_problems=800, seed=seed)
    ]
    by_prompt: dict[str, set[str]] = {}
    for problem in rows:
        by_prompt.setdefault(problem.prompt, set()).add(problem.id)
    assert len(by_prompt) < len(rows)  # some prompt came under two seeds
    assert all(len(ids) == 1 for ids in by_prompt.values())


def test_generators_are_frozen() -> None:
    """The shipped weights and rows were made from these problems: a change here needs new ones."""
    first = problems(TASKS, split="test", num_problems=3)
    assert [problem.id for problem in first] == FROZEN_IDS
    assert first[0].prompt == FROZEN_PROMPT


def test_many_problems_are_made_quickly() -> None:
    started = time.monotonic()
    problems(TASKS, split="train", num_problems=20_000)
    assert time.monotonic() - started < 12  # 200,000 in two minutes on a machine shared by eight


@pytest.mark.parametrize("task", TASKS)
def test_a_task_holds_enough_problems_for_training(task: str) -> None:
    found = problems([task], split="train", num_problems=40_000)
    assert len({problem.prompt for problem in found}) == 40_000


def test_a_task_that_runs_out_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_MAX_MISSES", 0)
    with pytest.raises(DataError, match="countdown/test"):
        problems(["countdown"], split="test", num_problems=10)


@pytest.mark.parametrize(
    ("names", "split", "word"),
    [
        (["sums"], "train", "unknown task 'sums'"),
        (["countdown"], "dev", "unknown split 'dev'"),
        ([], "train", "no task"),
    ],
)
def test_wrong_requests_are_refused(names: list[str], split: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        problems(names, split=split, num_problems=1)


def test_unknown_task_has_no_check() -> None:
    with pytest.raises(UsageError, match="sums"):
        check("sums", "", "")
    assert tasks.task_names() == list(TASKS)


def test_a_task_named_twice_gets_twice_the_share_and_no_problem_twice() -> None:
    made = problems(["countdown", "arithmetic", "countdown"], split="train", num_problems=60)
    counts = Counter(problem.task for problem in made)
    assert counts == {"countdown": 40, "arithmetic": 20}
    assert len({problem.id for problem in made}) == 60
    alone = problems(["countdown"], split="train", num_problems=40)
    assert [problem for problem in made if problem.task == "countdown"] == alone
