from pathlib import Path

import pytest
from evaluation_helpers import write_completions

from tabom_cli.assets.tasks import problems
from tabom_cli.core.evaluation.requests import build_requests
from tabom_cli.core.evaluation.score import score
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
    assert nonsense.metrics["unparsable,none"] == 1.0
