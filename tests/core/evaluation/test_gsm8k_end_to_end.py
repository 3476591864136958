import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from evaluation_helpers import character_model, read_jsonl, write_completions

from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.errors import DataError, UsageError
from tabom_cli.core.evaluation.generate import generate
from tabom_cli.core.evaluation.records import Request, read_requests
from tabom_cli.core.evaluation.requests import build_requests
from tabom_cli.core.evaluation.results import read_results, read_sample_scores, write_results
from tabom_cli.core.evaluation.score import score

NUM_PROBLEMS = 6


@pytest.fixture
def data_dir(fixtures: Path) -> Path:
    return fixtures / "benchmarks"


@pytest.fixture
def references(data_dir: Path) -> list[str]:
    return [row["answer"] for row in read_jsonl(data_dir / "gsm8k/test.jsonl")]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def test_reference_answers_score_all_correct(
    tmp_path: Path, data_dir: Path, references: list[str]
) -> None:
    requests = tmp_path / "requests.jsonl"
    build_requests(["gsm8k_cot"], requests, data_dir=data_dir)
    write_completions(requests, tmp_path / "c.jsonl", lambda item: references[item.doc_index])
    (result,) = score(requests, tmp_path / "c.jsonl")
    assert (result.num_correct, result.num_total) == (NUM_PROBLEMS, NUM_PROBLEMS)
    assert result.metric == "exact_match,flexible-extract"
    assert result.version == "3.0"
    assert result.metrics["exact_match,strict-match"] == 0.0
    # Wilson at k = n: lower bound n / (n + z^2).
    assert result.interval.low == pytest.approx(6 / (6 + 1.959963984540054**2))


def test_answers_of_the_next_problem_score_nothing(
    tmp_path: Path, data_dir: Path, references: list[str]
) -> None:
    requests = tmp_path / "requests.jsonl"
    build_requests(["gsm8k_cot"], requests, data_dir=data_dir)
    write_completions(
        requests, tmp_path / "c.jsonl", lambda item: references[(item.doc_index + 1) % NUM_PROBLEMS]
    )
    (result,) = score(requests, tmp_path / "c.jsonl")
    assert result.num_correct == 0


def test_prompts_are_those_of_the_harness_zero_shot(tmp_path: Path, data_dir: Path) -> None:
    build_requests(["gsm8k_cot"], tmp_path / "r.jsonl", data_dir=data_dir, limit=1)
    header, (request,) = read_requests(tmp_path / "r.jsonl")
    question = read_jsonl(data_dir / "gsm8k/test.jsonl")[0]["question"]
    assert [item.model_dump() for item in request.messages] == [
        {"role": "user", "content": f"Q: {question}\nA:"}
    ]
    assert request.gen_prefix is None
    assert request.until == ("Q:", "</s>", "<|im_end|>")
    assert header.num_fewshot == 0


def test_shots_become_earlier_turns(tmp_path: Path, data_dir: Path) -> None:
    requests = build_requests(
        ["gsm8k_cot"], tmp_path / "r.jsonl", data_dir=data_dir, limit=1, num_fewshot=2
    )
    roles = [message.role for message in requests[0].messages]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    assert requests[0].messages[1].content.endswith("The answer is 6.")


def test_request_ids_change_with_seed_and_sample_and_not_with_limit(
    tmp_path: Path, data_dir: Path
) -> None:
    def ids(**options: int) -> list[str]:
        built = build_requests(["gsm8k_cot"], tmp_path / "r.jsonl", data_dir=data_dir, **options)
        return [item.id for item in built]

    everything = ids()
    assert ids(limit=2) == everything[:2]
    assert not set(ids(seed=1)) & set(everything)
    twice = ids(num_samples=2)
    assert len(set(twice)) == 2 * NUM_PROBLEMS
    assert twice[::2] == everything


def test_the_whole_path_runs_on_a_random_model(tmp_path: Path, data_dir: Path) -> None:
    requests, completions = tmp_path / "r.jsonl", tmp_path / "c.jsonl"
    build_requests(["gsm8k_cot"], requests, data_dir=data_dir)
    decode = DecodeConfig(steps=12, max_new_tokens=12, batch_size=4)
    summary = generate(character_model(), requests, completions, decode, max_prompt_length=64)
    assert (summary.num_new, summary.num_truncated) == (NUM_PROBLEMS, NUM_PROBLEMS)
    scores = score(requests, completions)
    path = write_results(
        tmp_path,
        scores,
        requests_path=requests,
        completions_paths={"gsm8k_cot": completions},
        manifest={"command": ["test"]},
    )
    entry = read_results(path)["tasks"]["gsm8k_cot"]
    assert entry["num_total"] == NUM_PROBLEMS
    assert entry["decode"] == decode.model_dump(mode="json")
    assert entry["cost"]["num_steps"] == 12 * NUM_PROBLEMS
    # The time schedule reveals nothing in its first step, so 12 tokens take 11 forwards.
    assert entry["cost"]["tokens_per_forward"] == pytest.approx(12 / 11)
    assert set(read_sample_scores(tmp_path, "gsm8k_cot")) == set(range(NUM_PROBLEMS))
    assert json.loads(path.read_text())["manifest"]["command"] == ["test"]


def test_several_samples_give_pass_at_k_and_a_majority(
    tmp_path: Path, data_dir: Path, references: list[str]
) -> None:
    requests = tmp_path / "r.jsonl"
    build_requests(["gsm8k_cot"], requests, data_dir=data_dir, num_samples=3)

    def answer(item: Request) -> str:
        # Problem 0: right, right, wrong. Problem 1: right, wrong, other wrong. Others: wrong.
        right = {0: (0, 1), 1: (0,)}.get(item.doc_index, ())
        if item.sample_index in right:
            return references[item.doc_index]
        return f"The answer is {1000 + item.sample_index}"

    write_completions(requests, tmp_path / "c.jsonl", answer)
    (result,) = score(requests, tmp_path / "c.jsonl")
    assert (result.num_correct, result.num_total, result.num_problems) == (3, 18, 6)
    assert result.value == pytest.approx(3 / 18)
    # pass@1 = mean of 2/3, 1/3, 0...; pass@2 = 1 - C(1,2)/C(3,2) = 1 and 1 - C(2,2)/C(3,2) = 2/3.
    assert result.pass_at[1].value == pytest.approx((2 / 3 + 1 / 3) / 6)
    assert result.pass_at[2].value == pytest.approx((1 + 2 / 3) / 6)
    assert result.pass_at[3].value == pytest.approx(2 / 6)
    # Problem 1 is a three-way tie that the first answer, the right one, wins.
    assert result.majority is not None
    assert result.majority.value == pytest.approx(2 / 6)


def test_missing_answers_are_counted_and_named(tmp_path: Path, data_dir: Path) -> None:
    requests, completions = tmp_path / "r.jsonl", tmp_path / "c.jsonl"
    build_requests(["gsm8k_cot"], requests, data_dir=data_dir)
    write_completions(requests, completions, lambda item: "7")
    lines = completions.read_text().splitlines(keepends=True)
    completions.write_text("".join(lines[:4]) + lines[4][:20])
    with pytest.raises(DataError, match="3 of 6 answers are missing, first gsm8k_cot problem 3"):
        score(requests, completions)


def test_changed_data_is_noticed_when_scoring(tmp_path: Path, data_dir: Path) -> None:
    requests = tmp_path / "r.jsonl"
    build_requests(["gsm8k_cot"], requests, data_dir=data_dir)
    write_completions(requests, tmp_path / "c.jsonl", lambda item: "7")
    other = tmp_path / "other/gsm8k"
    other.mkdir(parents=True)
    content = (data_dir / "gsm8k/test.jsonl").read_text()
    (other / "test.jsonl").write_text(content.replace("15 pages", "16 pages"))
    with pytest.raises(DataError, match="problem 1 has another prompt"):
        score(requests, tmp_path / "c.jsonl", data_dir=tmp_path / "other")


def test_scoring_a_task_without_prompts_is_refused(tmp_path: Path, data_dir: Path) -> None:
    build_requests(["gsm8k_cot"], tmp_path / "r.jsonl", data_dir=data_dir)
    with pytest.raises(UsageError, match="no prompts of arithmetic"):
        score(tmp_path / "r.jsonl", tmp_path / "c.jsonl", tasks=["arithmetic"])


def test_harness_stays_silent_outside_a_repository(tmp_path: Path, data_dir: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from evaluation_helpers import write_completions\n"
        "from tabom_cli.core.evaluation.requests import build_requests\n"
        "from tabom_cli.core.evaluation.score import score\n"
        "r, c = Path('r.jsonl'), Path('c.jsonl')\n"
        "build_requests(['gsm8k_cot'], r, data_dir=Path(sys.argv[1]))\n"
        "write_completions(r, c, lambda item: '7')\n"
        "assert score(r, c)[0].num_correct == 1\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(data_dir), str(Path(__file__).parent)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
