import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from evaluation_helpers import EOS, IDS, TURN, CharacterTokenizer, character_model, read_jsonl

from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.errors import DataError, RunError, UsageError
from tabom_cli.core.evaluation.generate import answer_text, generate
from tabom_cli.core.evaluation.records import (
    RequestsHeader,
    make_request,
    read_completions,
    shard_path,
    write_requests,
)
from tabom_cli.core.models.template import render_prompt

DECODE = DecodeConfig(steps=10, max_new_tokens=10, batch_size=3)
PROMPTS = ["1+1", "Say something about the sea", "abc", "x" * 40, "Hi", "2*3=?", "What?"]


@pytest.fixture
def requests_path(tmp_path: Path) -> Path:
    requests = [
        make_request(
            "toy",
            index,
            messages=[{"role": "user", "content": prompt}],
            gen_prefix="so: " if index % 2 else None,
            until=["Q:"],
            max_new_tokens=None,
            seed=5,
        )
        for index, prompt in enumerate(PROMPTS)
    ]
    header = RequestsHeader(
        tasks=("toy",),
        task_versions={"toy": "1"},
        data_dir=None,
        num_fewshot=0,
        limit=None,
        num_samples=1,
        seed=5,
        harness="none",
    )
    path = tmp_path / "requests.jsonl"
    write_requests(path, header, requests)
    return path


def texts(path: Path) -> dict[int, str]:
    return {item.doc_index: item.text for item in read_completions(path)[1].values()}


def test_every_request_is_answered_once_with_its_costs(tmp_path: Path, requests_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    summary = generate(character_model(), requests_path, path, DECODE)
    assert (summary.num_done, summary.num_new) == (len(PROMPTS), len(PROMPTS))
    header, found = read_completions(path)
    assert header is not None
    assert header.model == "characters"
    assert len(found) == len(PROMPTS)
    tokenizer = CharacterTokenizer()
    for item in found.values():
        assert item.num_revealed == 10
        assert (item.num_steps, item.num_forwards) == (10, 9)
        assert item.ended == (item.num_tokens < 10)
        messages = [{"role": "user", "content": PROMPTS[item.doc_index]}]
        prefix = "so: " if item.doc_index % 2 else None
        ids = render_prompt(tokenizer, messages, max_length=None, gen_prefix=prefix)
        assert item.num_prompt_tokens == len(ids)


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, requests_path: Path) -> None:
    whole, torn = tmp_path / "whole.jsonl", tmp_path / "torn.jsonl"
    generate(character_model(), requests_path, whole, DECODE)
    lines = whole.read_text().splitlines(keepends=True)
    torn.write_text("".join(lines[:4]) + lines[4][:-30])
    summary = generate(character_model(), requests_path, torn, DECODE)
    assert summary.num_new == len(PROMPTS) - 3
    assert torn.read_text().splitlines(keepends=True)[:4] == lines[:4]
    assert texts(torn) == texts(whole)
    again = generate(character_model(), requests_path, torn, DECODE)
    assert (again.num_new, again.num_done) == (0, len(PROMPTS))
    assert len(read_jsonl(torn)) == 1 + len(PROMPTS)


def test_a_torn_header_is_repaired(tmp_path: Path, requests_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"kind": "completi')
    assert generate(character_model(), requests_path, path, DECODE).num_new == len(PROMPTS)
    assert read_jsonl(path)[0]["kind"] == "completions"


@pytest.mark.parametrize("world_size", [2, 3])
def test_several_processes_give_the_answers_of_one(
    tmp_path: Path, requests_path: Path, world_size: int
) -> None:
    single, several = tmp_path / "one.jsonl", tmp_path / "several.jsonl"
    generate(character_model(), requests_path, single, DECODE)
    sizes = [
        generate(
            character_model(), requests_path, several, DECODE, rank=rank, world_size=world_size
        ).num_new
        for rank in range(world_size)
    ]
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == len(PROMPTS)
    assert not several.exists()
    assert texts(several) == texts(single)


def test_resuming_with_another_number_of_processes_repeats_nothing(
    tmp_path: Path, requests_path: Path
) -> None:
    path = tmp_path / "c.jsonl"
    first = generate(character_model(), requests_path, path, DECODE, rank=0, world_size=2)
    assert first.path == shard_path(path, 0, 2)
    second = generate(character_model(), requests_path, path, DECODE)
    assert second.num_new == len(PROMPTS) - first.num_new
    assert len(texts(path)) == len(PROMPTS)


@pytest.mark.parametrize(
    ("seed", "decode", "options", "words"),
    [
        (1, DECODE, {}, "weights"),
        (
            0,
            DECODE.model_copy(update={"temperature": 0.5}),
            {},
            "decode.temperature 0.0 against 0.5",
        ),
        (0, DECODE, {"max_prompt_length": 20}, "max_prompt_length 1024 against 20"),
        (0, DECODE, {"answer_end": "eos"}, "answer_end turn against eos"),
    ],
)
def test_answers_of_two_settings_are_never_mixed(
    tmp_path: Path,
    requests_path: Path,
    seed: int,
    decode: DecodeConfig,
    options: dict[str, Any],
    words: str,
) -> None:
    path = tmp_path / "c.jsonl"
    generate(character_model(), requests_path, path, DECODE)
    before = path.read_bytes()
    with pytest.raises(RunError, match="another run") as caught:
        generate(character_model(seed), requests_path, path, decode, **options)
    assert words in caught.value.message
    assert path.read_bytes() == before


def test_batch_size_may_change_between_runs(tmp_path: Path, requests_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    generate(character_model(), requests_path, path, DECODE)
    other = DECODE.model_copy(update={"batch_size": 1})
    assert generate(character_model(), requests_path, path, other).num_new == 0


def test_long_prompts_keep_their_end_and_are_counted(tmp_path: Path, requests_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    events = []
    summary = generate(
        character_model(), requests_path, path, DECODE, max_prompt_length=30, progress=events.append
    )
    assert summary.num_truncated > 0
    assert f"{summary.num_truncated} of 7 prompts exceed 30 tokens" in events[0].text
    assert max(item.num_prompt_tokens for item in read_completions(path)[1].values()) == 30


def test_answers_are_cut_at_their_end_and_at_until_strings() -> None:
    model = character_model()

    def cut(text: str, until: list[str], end: Any) -> str:
        return answer_text(model, CharacterTokenizer()(text)["input_ids"], until, end)

    text = f"one two{TURN}\nthree{EOS}four"
    assert cut(text, [], "turn") == "one two"
    assert cut(text, [], "eos") == f"one two{TURN}\nthree"
    assert cut(text, [TURN], "eos") == "one two"
    assert cut("a Q: b", ["Q:"], "turn") == "a "
    assert cut("a Q: b stop c", ["stop", "Q:"], "eos") == "a "
    assert cut("plain", [], "turn") == "plain"
    assert IDS[TURN] in model.ids.end


class CountingObserver:
    """Counts the steps of each row."""

    def __init__(self) -> None:
        self.steps: dict[str, int] = {}

    def before_reveal(self, view: Any) -> None:
        for name in view.request_ids:
            self.steps[name] = self.steps.get(name, 0) + 1

    def after_reveal(self, view: Any) -> None:
        pass

    def trace(self, request_id: str) -> Any:
        class Stored:
            def as_json(_self) -> dict[str, Any]:  # noqa: N805
                return {"id": request_id, "steps": self.steps[request_id]}

        return Stored()


def test_an_observers_trace_is_stored_with_each_answer(tmp_path: Path, requests_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    generate(character_model(), requests_path, path, DECODE, observer=CountingObserver())
    for item in read_completions(path)[1].values():
        assert item.tds == {"id": item.id, "steps": 10}


def test_progress_counts_earlier_answers_too(tmp_path: Path, requests_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    generate(character_model(), requests_path, path, DECODE)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]))
    events = []
    generate(character_model(), requests_path, path, DECODE, progress=events.append)
    assert [(event.done, event.total) for event in events] == [(6, 7), (7, 7)]


def test_a_damaged_line_in_the_middle_is_an_error_with_its_place(
    tmp_path: Path, requests_path: Path
) -> None:
    path = tmp_path / "c.jsonl"
    generate(character_model(), requests_path, path, DECODE)
    lines = path.read_text().splitlines(keepends=True)
    lines[2] = lines[2][:40] + "\n"
    path.write_text("".join(lines))
    with pytest.raises(DataError, match=r"c\.jsonl:3"):
        generate(character_model(), requests_path, path, DECODE)


def test_ranks_outside_the_world_are_refused(tmp_path: Path, requests_path: Path) -> None:
    with pytest.raises(UsageError, match="rank 2"):
        generate(
            character_model(), requests_path, tmp_path / "c.jsonl", DECODE, rank=2, world_size=2
        )


def test_generating_imports_neither_lm_eval_nor_datasets_nor_pandas(
    tmp_path: Path, requests_path: Path
) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from evaluation_helpers import character_model\n"
        "from tabom_cli.core.decoding.config import DecodeConfig\n"
        "from tabom_cli.core.evaluation.generate import generate\n"
        "generate(character_model(), Path(sys.argv[2]), Path(sys.argv[3]),\n"
        "         DecodeConfig(steps=4, max_new_tokens=4))\n"
        "import json\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            str(Path(__file__).parent),
            str(requests_path),
            str(tmp_path / "c.jsonl"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"lm_eval", "datasets", "pandas"} & set(json.loads(done.stdout))
