"""What users get wrong and what breaks under them: exit codes, messages that name the file, no loss."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tabom_processes import Finished, Nursery, trajectory_rows, write_lines, write_small_model

from tabom_cli.core.errors import EXIT_FAILED

TRAIN = ("train", "--recipe", "small.yaml")


def refused(done: Finished, *texts: str) -> None:
    """A failed run that says these things, without a traceback and without a result."""
    assert done.code == EXIT_FAILED, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("Error: ") == 1
    for text in texts:
        assert text in done.stderr
    assert done.stdout == ""


def test_a_missing_trajectory_file_names_itself_its_source_and_how_to_make_it(
    work: Path, nursery: Nursery
) -> None:
    (work / "rows.jsonl").unlink()
    done = nursery.run(*TRAIN, cwd=work)
    refused(done, "Error: rows.jsonl: no such trajectory file", "a drawer in the laboratory")
    assert "make it with: tabom distill --recipe small" in done.stderr
    assert not (work / "checkpoints").exists()
    shown = nursery.run(*TRAIN, "--dry-run", cwd=work)
    assert shown.code == 0
    assert "not usable: rows.jsonl: no such trajectory file" in shown.stdout
    assert "a drawer in the laboratory" in shown.stdout


def short_order(rows: list[dict]) -> None:
    rows[4]["decoding_order"] = rows[4]["decoding_order"][:5]


def long_order(rows: list[dict]) -> None:
    rows[4]["response_token_ids"] = rows[4]["response_token_ids"][:10]


def missing_order(rows: list[dict]) -> None:
    del rows[4]["decoding_order"]


def big_id(rows: list[dict]) -> None:
    rows[4]["response_token_ids"][0] = 640


def negative_id(rows: list[dict]) -> None:
    rows[4]["response_token_ids"][0] = -5


def text_id(rows: list[dict]) -> None:
    rows[4]["response_token_ids"][0] = "five"


@pytest.mark.parametrize(
    ("spoil", "texts"),
    [
        (
            short_order,
            ("rows.jsonl:5: ", "decoding_order", "5", "12", "data.on_missing_order=drop"),
        ),
        (long_order, ("rows.jsonl:5: 'decoding_order' has 12 items for 10 response_token_ids",)),
        (missing_order, ("rows.jsonl:5: ", "'decoding_order' is missing")),
        (big_id, ("rows.jsonl:5: ", "640")),
        (negative_id, ("rows.jsonl:5: ", "-5")),
        (text_id, ("rows.jsonl:5: ", "response_token_ids")),
    ],
)
def test_a_malformed_row_names_file_line_and_finding(
    work: Path, nursery: Nursery, spoil: Callable[[list[dict]], None], texts: tuple[str, ...]
) -> None:
    rows = trajectory_rows()
    spoil(rows)
    write_lines(work / "rows.jsonl", rows)
    refused(nursery.run(*TRAIN, cwd=work), *texts)


def test_several_malformed_rows_come_together(work: Path, nursery: Nursery) -> None:
    rows = trajectory_rows()
    short_order(rows)
    rows[7]["response_token_ids"] = [9999]
    write_lines(work / "rows.jsonl", rows)
    refused(nursery.run(*TRAIN, cwd=work), "rows.jsonl:5: ", "rows.jsonl:8: ")


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"", ("rows.jsonl: the file is empty", "tabom distill")),
        (b"\n\n", ("rows.jsonl: the file is empty",)),
        (b'{"prompt": "a"', ("rows.jsonl:1: ", "cut off")),
        (b'{"prompt": "caf\xe9"}\n', ("rows.jsonl:1: not UTF-8: byte 0xe9",)),
        (b"[1, 2]\n", ("rows.jsonl:1: not a JSON object but a list",)),
        (b"prompt,response\na,b\n", ("rows.jsonl:1: not JSON",)),
        (b"\x1f\x8b\x08\x00\x00", ("rows.jsonl:1: ",)),
    ],
)
def test_a_file_that_is_no_trajectory_file_is_refused(
    work: Path, nursery: Nursery, content: bytes, texts: tuple[str, ...]
) -> None:
    (work / "rows.jsonl").write_bytes(content)
    refused(nursery.run(*TRAIN, cwd=work), *texts)


def test_a_file_that_ends_in_the_middle_of_a_line_is_refused_with_the_line(
    work: Path, nursery: Nursery
) -> None:
    path = work / "rows.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    refused(nursery.run(*TRAIN, cwd=work), "rows.jsonl:12: the last line is cut off")


def test_missing_orders_can_be_dropped_or_made_left_to_right(work: Path, nursery: Nursery) -> None:
    rows = trajectory_rows()
    missing_order(rows)
    write_lines(work / "rows.jsonl", rows)
    del rows[6]["prompt"]
    write_lines(work / "rows.jsonl", rows)
    for choice, text in (("drop", "left out"), ("ltr", "left-to-right instead")):
        values = ("--set", f"data.on_missing_order={choice}", "--set", "train.max_steps=1")
        done = nursery.run(*TRAIN, *values, cwd=work)
        assert done.code == 0, done.stderr
        assert f"rows.jsonl: 1 row without a full decoding_order: {text}" in done.stderr
        assert "rows.jsonl: 1 row without a prompt: left out" in done.stderr


@pytest.fixture
def own_base(work: Path, small_base: Path) -> Path:
    """A checkpoint folder of this test's own."""
    (work / "base").unlink()
    shutil.copytree(small_base, work / "base")
    return work / "base"


def without_config(base: Path) -> None:
    (base / "config.json").unlink()


def broken_config(base: Path) -> None:
    (base / "config.json").write_text("{")


def without_weights(base: Path) -> None:
    (base / "model.safetensors").unlink()


def without_tokenizer(base: Path) -> None:
    (base / "tokenizer.json").unlink()


def truncated(base: Path) -> None:
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def wrong_shape(base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "intermediate_size": 56}))


def missing_tensor(base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})


def missing_shard(base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    names = sorted(weights)
    half = {name: weights[name] for name in names[::2]}
    save_file(half, base / "model-00001-of-00002.safetensors", metadata={"format": "pt"})
    where = {
        name: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate(names)
    }
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (base / "model.safetensors").unlink()


def other_family(base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))


@pytest.mark.parametrize(
    ("spoil", "texts"),
    [
        (without_config, ("base/config.json: file not found", "the folder holds: ")),
        (broken_config, ("base/config.json: cannot be read as JSON",)),
        (without_weights, ("base: no weights (model.safetensors",)),
        (without_tokenizer, ("base", "tokenizer")),
        (truncated, ("base/model.safetensors: truncated: ", "its header promises")),
        (wrong_shape, ("mlp.gate_proj.weight has shape (48, 32), config.json asks for (56, 32)",)),
        (missing_tensor, ("lm_head.weight is missing",)),
        (missing_shard, ("model-00002-of-00002.safetensors: file not found",)),
        (other_family, ("llama",)),
    ],
)
def test_a_damaged_checkpoint_names_the_file_and_what_is_wrong(
    work: Path,
    nursery: Nursery,
    own_base: Path,
    spoil: Callable[[Path], None],
    texts: tuple[str, ...],
) -> None:
    spoil(own_base)
    refused(nursery.run(*TRAIN, cwd=work), *texts)
    assert not list(work.glob("**/final"))
    refused(nursery.run("distill", "--recipe", "small.yaml", cwd=work), *texts)
    assert not (work / "distilled.jsonl").exists()


def test_an_adapter_for_another_base_is_refused(work: Path, nursery: Nursery) -> None:
    assert nursery.run(*TRAIN, "--set", "train.max_steps=1", cwd=work).code == 0
    (adapter,) = work.glob("checkpoints/small/*/final")
    write_small_model(work / "wide", hidden_size=64)
    shapes = ("--set", f"model.adapter={adapter}", "--set", "model.path=wide")
    done = nursery.run("distill", "--recipe", "small.yaml", *shapes, cwd=work)
    refused(done, "adapter_model.safetensors: this adapter does not fit", "wide", "base")
    other = nursery.run("distill", "--recipe", "small.yaml", *shapes[:2], cwd=work)
    assert other.code == 0, other.stderr


def test_an_adapter_folder_without_weights_is_refused(work: Path, nursery: Nursery) -> None:
    assert nursery.run(*TRAIN, "--set", "train.max_steps=1", cwd=work).code == 0
    (adapter,) = work.glob("checkpoints/small/*/final")
    (adapter / "adapter_model.safetensors").unlink()
    done = nursery.run("tds", str(adapter), "--recipe", "small.yaml", cwd=work)
    refused(done, "adapter_model.safetensors")


def test_a_disk_that_fills_while_a_model_is_saved_leaves_no_half_model(
    work: Path, nursery: Nursery
) -> None:
    """The limit lets the state of step 2 through and stops the larger epoch folder (tokenizer)."""
    sizes = [path.stat().st_size for path in (work / "base").iterdir()]
    limit = (work / "base" / "tokenizer.json").stat().st_size - 1
    assert limit < max(sizes)
    full = nursery.run(*TRAIN, cwd=work, limits={"RLIMIT_FSIZE": limit})
    refused(full, "epoch_1", os.strerror(errno.EFBIG))
    assert "free space on this disk" in full.stderr
    (run,) = work.glob("checkpoints/small/train_*")
    assert not (run / "epoch_1").exists()
    assert not list(run.glob(".*partial*"))
    assert (run / "state" / "step_2" / "position.json").is_file()

    resumed = nursery.run(*TRAIN, "--resume", "auto", cwd=work)
    assert resumed.code == 0, resumed.stderr
    assert "from step_2" in resumed.stderr
    steps = [
        json.loads(line)["step"] for line in (run / "metrics.jsonl").open() if '"loss"' in line
    ]
    assert steps == list(range(1, 10))


def test_a_disk_that_fills_during_distillation_keeps_whole_rows(
    work: Path, nursery: Nursery
) -> None:
    path = work / "distilled.jsonl"
    full = nursery.run("distill", "--recipe", "small.yaml", cwd=work, limits={"RLIMIT_FSIZE": 5000})
    refused(full, "distilled.jsonl", os.strerror(errno.EFBIG))
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert 0 < len(kept) < 20
    done = nursery.run("distill", "--recipe", "small.yaml", cwd=work)
    assert done.code == 0, done.stderr
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({row["id"] for row in rows}) == 20
    by_id = {row["id"]: row for row in rows}
    assert all(by_id[row["id"]] == row for row in kept)


def test_a_folder_that_cannot_be_written_is_named(work: Path, nursery: Nursery) -> None:
    (work / "blocked").write_text("a file, not a folder")
    done = nursery.run(*TRAIN, "--set", "train.output_dir=blocked", cwd=work)
    refused(done, "blocked/small")
    assert (work / "blocked").read_text() == "a file, not a folder"


def test_an_output_folder_that_exists_is_never_overwritten(work: Path, nursery: Nursery) -> None:
    (work / "out").mkdir()
    (work / "out" / "tds.json").write_text("mine")
    done = nursery.run("tds", "base", "--recipe", "small.yaml", "--output", "out", cwd=work)
    refused(done, "out exists and is not overwritten")
    assert (work / "out" / "tds.json").read_text() == "mine"
    copied = nursery.run("recipes", "copy", "tiny", "small.yaml", cwd=work)
    refused(copied, "small.yaml exists and is not overwritten")
    assert (work / "small.yaml").read_text().startswith("name: small")


def test_two_runs_that_start_in_one_second_get_folders_of_their_own(
    work: Path, nursery: Nursery
) -> None:
    commands = [nursery.start(*TRAIN, "--set", "train.max_steps=1", cwd=work) for _ in range(3)]
    codes = [command.wait().code for command in commands]
    assert codes == [0, 0, 0]
    assert len(list(work.glob("checkpoints/small/train_*/final"))) == 3


def test_a_run_that_another_process_writes_is_not_resumed(work: Path, nursery: Nursery) -> None:
    long = (*TRAIN, "--set", "train.epochs=3000")
    first = nursery.start(*long, cwd=work)
    first.wait_for(lambda: bool(list(work.glob("checkpoints/small/*/state/step_*"))))
    second = nursery.run(*long, "--resume", "auto", cwd=work)
    first.signal(signal.SIGKILL)
    first.wait()
    refused(second, "another process is writing here")
