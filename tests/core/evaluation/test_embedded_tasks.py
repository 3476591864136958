from pathlib import Path

import pytest
from evaluation_helpers import write_completions

from tabom_cli.assets.tasks import problems
from tabom_cli.core.evaluation.records import Request
from tabom_cli.core.evaluation.requests import build_requests
from tabom_cli.core.evaluation.score import score
from tabom_cli.core.evaluation.tasks.base import load_task
from tabom_cli.core.sandbox import why_unavailable

NUM = 12


@pytest.mark.parametrize("task", ["countdown", "arithmetic", "functions"])
def test_reference_answers_are_right_and_those_of_the_next_problem_wrong(
    tmp_path: Path, task: str
) -> None:
    if task == "functions" and why_unavailable() is not None:
        pytest.skip(str(why_unavailable()))
    requests, completions = tmp_path / "r.jsonl", tmp_path / "c.jsonl"
    build_requests([task], requests, limit=NUM)
    known = problems([task], split="test", num_problems=NUM)
    write_completions(requests, completions, lambda item: known[item.doc_index].answer)
    (right,) = score(requests, completions, allow_code_execution=True)
    assert (right.metric, right.num_correct, right.num_total) == ("accuracy,none", NUM, NUM)
    write_completions(requests, completions, lambda item: known[item.doc_index - 1].answer)
    (shifted,) = score(requests, completions, allow_code_execution=True)
    assert shifted.num_correct is not None
    assert shifted.num_correct <= 2
    write_completions(requests, completions, lambda item: "no answer at all")
    (nonsense,) = score(requests, completions, allow_code_execution=True)
    assert nonsense.num_correct == 0
    assert nonsense.metrics["unparsable,none"] == NUM
    assert nonsense.counts == {"unparsable": NUM, "timeouts": 0, "errors": 0}


@pytest.mark.parametrize(
    ("task", "answer", "extracted"),
    [
        ("arithmetic", "3 + 4 = 7. The answer is 7. So the answer is 07.", "7"),
        ("arithmetic", "no idea", ""),
        ("countdown", "3 + 4 = 7, 7 * 2 = 14.", "3+4=7,7*2=14"),
        ("countdown", "no idea", ""),
        ("minerva_math500", r"so $x = \boxed{\frac{1}{2}}$", r"\frac{1}{2}"),
        ("minerva_math500", "The final answer is $24$. I hope it is correct.", "24"),
        ("minerva_math500", "no idea", ""),
    ],
)
def test_votes_count_what_is_taken_out_of_an_answer(task: str, answer: str, extracted: str) -> None:
    spec = load_task(task)
    assert spec.votes
    assert spec.extract is not None
    assert spec.extract(answer) == extracted


def test_several_answers_to_an_embedded_task_are_counted_for_a_majority(tmp_path: Path) -> None:
    requests, completions = tmp_path / "r.jsonl", tmp_path / "c.jsonl"
    build_requests(["arithmetic"], requests, limit=2, num_samples=3)
    known = problems(["arithmetic"], split="test", num_problems=2)

    def answer(item: Request) -> str:
        right = f"Well: {item.sample_index}. {known[item.doc_index].answer}"
        others = ("nothing", f"The answer is {10**6 + item.sample_index}")
        return right if item.sample_index < 2 - item.doc_index else others[item.doc_index]

    write_completions(requests, completions, answer)
    (result,) = score(requests, completions)
    assert result.majority is not None
    # The second problem has three answers of one vote each, of which the first is right.
    assert (result.num_correct, result.majority.value) == (3, 1.0)
    assert result.counts == {"unparsable": 1, "timeouts": 0, "errors": 0}
