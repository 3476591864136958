"""Files of dLLM-RL and d3LLM as our rows, and our rows in the original release's form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tabom_cli.assets import asset_path, tiny_path
from tabom_cli.core.data.interchange import ImportReport, import_rows, order_of_snapshots
from tabom_cli.core.data.release_export import RELEASE_KEYS, UNKNOWN, dataset_card, release_row
from tabom_cli.core.data.stats import trajectory_stats
from tabom_cli.core.data.trajectory import Trajectory, read_trajectories, write_trajectories
from tabom_cli.core.errors import DataError, RunError
from tabom_cli.core.models.load import load_checked_tokenizer

TOKENIZER, IDS = load_checked_tokenizer(tiny_path(), label="tiny")
MASK, END = IDS.mask, IDS.eos


def encode(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False))


def imported(path: Path, **options: Any) -> tuple[list[Trajectory], ImportReport]:
    report = ImportReport()
    return list(import_rows(path, TOKENIZER, IDS, report, model="tiny", **options)), report


def test_rollouts_of_dllm_rl_give_one_row_per_answer(tmp_path: Path) -> None:
    answers = ["3 + 4 = 7<|im_end|><|endoftext|>", "5<|im_end|>"]
    maps = [[3, 1, 0, 2, 4, 5, 6], [1, 0]]
    assert [len(encode(text)) for text in answers] == [7, 2]
    rendered = "<|im_start|>user\nPut it in a box: Make 7.<|im_end|>\n<|im_start|>assistant\n"
    row = {
        "question": "Make 7.",
        "prompt": rendered,
        "ground_truth_answer": "7",
        "full_output": answers,
        "step_map": maps,
        "correctness": [True, False],
    }
    path = tmp_path / "rollout.json"
    path.write_text(json.dumps([row]))
    rows, report = imported(path, method="entropy", keep_verdicts=True)
    assert [found.response for found in rows] == ["3 + 4 = 7", "5"]
    assert [found.decoding_order for found in rows] == maps
    assert [found.response_token_ids for found in rows] == [encode(text) for text in answers]
    assert {found.prompt for found in rows} == {"Put it in a box: Make 7."}
    assert {found.model for found in rows} == {"tiny"}
    assert rows[0].prompt_token_ids == encode(rendered)
    assert [found.verdict for found in rows] == ["correct", "wrong"]
    assert [found.reward for found in rows] == [1.0, 0.0]
    assert rows[0].group_id == rows[1].group_id
    assert rows[0].id != rows[1].id
    # By hand: 1 and 2 come after step 3 on their left, 3 too; 4, 5 and 6 are in order.
    assert rows[0].non_ltr_positions == [1, 2, 3]
    assert (report.format, report.num_rows, report.num_first_steps) == ("dllm_rl", 2, 2)
    assert [found.verdict for found in imported(path)[0]] == ["unverified"] * 2


def test_training_rows_of_dllm_rl_and_masks_that_stayed(tmp_path: Path) -> None:
    rows = [
        {"question": "q", "response": "5<|mask|>", "step_map": [1, 0], "reward": 1.0},
        {"question": "q", "response": "5 6", "step_map": [1], "reward": 0.0},
    ]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (row,), report = imported(path)
    assert row.decoding_order == [1, -1]
    assert report.dropped.total() == 1


def test_snapshots_of_d3llm_become_an_order(tmp_path: Path) -> None:
    prompt, final = encode("Make 7."), [*encode("3 + 4"), END]
    length = len(final)
    steps = list(reversed(range(length)))
    snapshots = [
        [token if steps[i] <= step else MASK for i, token in enumerate(final)]
        for step in range(length)
    ]
    row = {
        "idx": 0,
        "question": "Make 7.",
        "prompt_ids": prompt,
        "trajectory": [[*prompt, *snapshot] for snapshot in snapshots],
        "final_output": [*prompt, *final],
        "generated_text": "Make 7.3 + 4",
        "llm_answer": "4",
        "gt_answer": "7",
        "is_correct": True,
        "nfe": length,
    }
    only_response = row | {"trajectory": snapshots}
    unfinished = row | {"final_output": [*prompt, *final[:-1], MASK]}
    path = tmp_path / "d3.json"
    path.write_text(json.dumps([row, only_response, unfinished]))
    rows, report = imported(path)
    assert [found.decoding_order for found in rows] == [steps, steps]
    assert rows[0].response == "3 + 4"
    assert (rows[0].prompt, rows[0].reference, rows[0].verdict) == ("Make 7.", "7", "unverified")
    assert rows[0].prompt_token_ids == prompt
    assert (report.format, report.num_rows) == ("d3llm", 2)
    assert report.dropped == {"that were not decoded to the end": 1}
    import datasets

    datasets.Dataset.from_list([row]).save_to_disk(str(tmp_path / "saved"))
    assert imported(tmp_path / "saved")[0][0].decoding_order == steps


def test_an_order_is_the_first_snapshot_without_a_mask() -> None:
    snapshots = [[9, 1, 9], [9, 1, 9], [2, 1, 9]]
    assert order_of_snapshots(snapshots, mask_token_id=9, length=3) == [2, 0, -1]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('[{"a": 1}]', r"d\.json:1: neither 'step_map' nor 'trajectory'$"),
        ('{"a": 1}', "a list of objects is expected, found an object"),
        ("[1]", "d.json:1: not an object but a number"),
        ("[", "not JSON"),
        ("[]", "no row can be used"),
        ('[{"step_map": [[1]], "full_output": ["a", "b"]}]', "not lists of one length"),
        ('[{"trajectory": [[1]], "question": "q"}]', "is missing or of another type"),
    ],
)
def test_foreign_files_of_another_shape_are_refused(
    tmp_path: Path, content: str, text: str
) -> None:
    path = tmp_path / "d.json"
    path.write_text(content)
    with pytest.raises(DataError, match=text):
        imported(path)


def test_the_keys_of_a_foreign_file_are_shown_once(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(json.dumps([{"first": 1, "second": 2}] * 12))
    with pytest.raises(DataError) as caught:
        imported(path)
    assert len(caught.value.message.splitlines()) == 11
    assert "second" not in caught.value.message
    assert str(caught.value.hint).endswith("line 1 has the keys first, second")


def test_release_rows_are_read_back_as_they_were(tmp_path: Path) -> None:
    rows, _ = read_trajectories("asset:examples.jsonl")
    path = tmp_path / "release.jsonl"
    write_trajectories(path, (release_row(row) for row in rows))
    first = json.loads(path.read_text().splitlines()[0])
    assert tuple(first) == RELEASE_KEYS
    again, _ = read_trajectories(path, method_filter="entropy")
    for key in RELEASE_KEYS:
        assert [getattr(row, key) for row in again] == [getattr(row, key) for row in rows], key
    with pytest.raises(RunError, match="exists and is not overwritten"):
        write_trajectories(path, [])


def test_writing_leaves_nothing_behind_when_a_row_fails(tmp_path: Path) -> None:
    def rows() -> Any:
        yield {"a": 1}
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        write_trajectories(tmp_path / "t.jsonl", rows())
    assert not list(tmp_path.iterdir())


def test_a_card_states_counts_decode_and_licences() -> None:
    rows, _ = read_trajectories(asset_path("examples.jsonl"))
    values = trajectory_stats(rows, end_ids=IDS.end)
    manifest = {
        "model": "Dream-org/Dream-v0-Instruct-7B@abc",
        "seed": 3,
        "distill": {
            "verifier": "math",
            "prompts": {"preset": "mixchain_z_prm12k"},
            "decode": {"strategy": "entropy", "temperature": 0.1},
        },
    }
    card = dataset_card(
        name="rows",
        stats=values,
        manifest=manifest,
        models=["Dream-org/Dream-v0-Instruct-7B@abc", "mine"],
        licence="apache-2.0",
    )
    _, front, body = card.split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["license"] == "apache-2.0"
    assert fields["size_categories"] == ["n<1K"]
    assert fields["configs"][0]["data_files"][0]["path"] == "data/train.jsonl"
    assert "| rows | 8 |" in body
    assert "| verdict correct | 5 |" in body
    assert '"temperature": 0.1' in body
    assert "| model Dream-org/Dream-v0-Instruct-7B | apache-2.0 |" in body
    assert f"| model mine | {UNKNOWN} |" in body
    assert "| prompts | apache-2.0 (horseee/MixChain-Z-PRM12K) |" in body
    bare = dataset_card(name="rows", stats=values, manifest=None, models=[])
    assert "license: other" in bare
    assert "Not recorded" in bare
