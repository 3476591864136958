"""`tabom train` as a process: what it writes, says and refuses, and how it survives signals and kills."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from tabom_processes import Finished, Nursery, run_fresh, trajectory_rows, write_lines

from tabom_cli.core.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE

TRAIN = ("train", "--recipe", "small.yaml")


def only_run(work: Path) -> Path:
    (run,) = (work / "checkpoints" / "small").glob("train_*")
    return run


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_equal_runs(run: Path, other: Path) -> None:
    """Bit for bit: metrics, the final adapter and every epoch's."""
    assert (run / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    for name in ("epoch_1", "epoch_2", "epoch_3", "final"):
        file = f"{name}/adapter_model.safetensors"
        assert (run / file).read_bytes() == (other / file).read_bytes(), name


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, small_base: Path, nursery: Nursery
) -> tuple[Path, Finished]:
    """The folder and output of an uninterrupted run."""
    from tabom_processes import write_small_run

    folder = tmp_path_factory.mktemp("whole")
    write_small_run(folder, small_base)
    done = nursery.run(*TRAIN, cwd=folder)
    assert done.code == 0, done.stderr
    return only_run(folder), done


def test_a_run_writes_what_it_promises(whole: tuple[Path, Finished]) -> None:
    run, done = whole
    assert {path.name for path in run.iterdir()} == {
        *("metrics.jsonl", "timings.jsonl", "recipe.resolved.yaml", "manifest.json"),
        *("epoch_1", "epoch_2", "epoch_3", "final", "state"),
    }
    assert {path.name for path in (run / "state").iterdir()} == {"step_6", "step_8"}
    for name in ("epoch_1", "final"):
        assert {
            *("adapter_config.json", "adapter_model.safetensors", "tokenizer.json"),
            *("recipe.resolved.yaml", "manifest.json"),
        } <= {path.name for path in (run / name).iterdir()}
    assert done.stdout == f"{run.relative_to(run.parents[2])}/final\n"
    steps = [line for line in metrics(run) if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 10))
    assert [line["epoch"] for line in metrics(run) if "validation/loss" in line] == [1, 2, 3]


def test_the_manifest_says_where_a_run_came_from(whole: tuple[Path, Finished]) -> None:
    run, _ = whole
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["command"] == ["tabom", *TRAIN]
    assert manifest["seed"] == 5
    assert manifest["processes"] == 1
    assert manifest["device"].startswith("CPU")
    assert manifest["packages"]["torch"]


def test_the_resolved_recipe_runs_again_and_gives_the_same_run(
    whole: tuple[Path, Finished], work: Path, nursery: Nursery
) -> None:
    run, _ = whole
    resolved = run / "recipe.resolved.yaml"
    assert yaml.safe_load(resolved.read_text())["train"]["eps"] == 1e-8
    done = nursery.run("train", "--recipe", str(resolved), cwd=work)
    assert done.code == 0, done.stderr
    assert_equal_runs(run, only_run(work))


def test_training_changes_the_adapter_every_epoch(whole: tuple[Path, Finished]) -> None:
    run, _ = whole
    adapters = [load_file(run / f"epoch_{n}" / "adapter_model.safetensors") for n in (1, 2, 3)]
    for before, after in itertools.pairwise(adapters):
        assert any(not before[name].equal(after[name]) for name in before)
    final = (run / "final" / "adapter_model.safetensors").read_bytes()
    assert final == (run / "epoch_3" / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_a_state_that_resumes_bit_for_bit(
    whole: tuple[Path, Finished], work: Path, nursery: Nursery, number: signal.Signals
) -> None:
    command = nursery.start(*TRAIN, "--set", "train.save_every=100", cwd=work)
    log = work / "checkpoints" / "small"
    command.wait_for(lambda: any(p.read_text() for p in log.glob("train_*/metrics.jsonl")))
    command.signal(number)
    stopped = command.wait()
    assert stopped.code == EXIT_INTERRUPTED
    run = only_run(work)
    assert f"Error: stopped by {number.name} after step" in stopped.stderr
    assert f"Hint: continue with --resume {run.relative_to(work)}" in stopped.stderr
    assert not (run / "final").exists()
    assert len(list((run / "state").iterdir())) == 1

    resumed = nursery.run(*TRAIN, "--resume", "auto", cwd=work)
    assert resumed.code == 0, resumed.stderr
    assert f"resuming {run.relative_to(work)} from step_" in resumed.stderr
    assert_equal_runs(whole[0], run)


def test_a_second_ctrl_c_ends_a_run_at_once(work: Path, nursery: Nursery) -> None:
    command = nursery.start(*TRAIN, "--set", "train.epochs=500", cwd=work)
    log = work / "checkpoints" / "small"
    command.wait_for(lambda: any(p.read_text() for p in log.glob("train_*/metrics.jsonl")))
    command.signal(signal.SIGINT)
    command.signal(signal.SIGINT)
    assert command.wait().code == EXIT_INTERRUPTED
    assert nursery.run(*TRAIN, "--resume", "auto", "--dry-run", cwd=work).code == 0


def test_kills_at_random_moments_do_not_change_the_result(
    whole: tuple[Path, Finished], work: Path, nursery: Nursery
) -> None:
    """Ten kills, the last of them late, then the run is finished."""
    draw = random.Random(20)
    kills = 0
    for attempt in range(40):
        command = nursery.start(*TRAIN, "--resume", "auto", cwd=work)
        if kills < 10 and attempt % 4 < 3:
            time.sleep(draw.uniform(0.02, 0.5))
            command.signal(signal.SIGKILL)
        done = command.wait()
        kills += done.code == -signal.SIGKILL
        if any((work / "checkpoints" / "small").glob("train_*/final")):
            break
        assert done.code in (0, -signal.SIGKILL), done.stderr
    (finished,) = (work / "checkpoints" / "small").glob("train_*/final")
    assert_equal_runs(whole[0], finished.parent)


@pytest.mark.parametrize("after", range(9))
def test_a_kill_right_after_any_step_does_not_change_the_result(
    whole: tuple[Path, Finished], work: Path, nursery: Nursery, after: int
) -> None:
    command = nursery.start(*TRAIN, cwd=work)
    log = work / "checkpoints" / "small"

    def steps() -> int:
        return sum(p.read_text().count('"loss"') for p in log.glob("train_*/metrics.jsonl"))

    command.wait_for(lambda: steps() > after)
    command.signal(signal.SIGKILL)
    assert command.wait().code == -signal.SIGKILL
    done = nursery.run(*TRAIN, "--resume", "auto", cwd=work)
    assert done.code == 0, done.stderr
    finished = [p.parent for p in log.glob("train_*/final")]
    assert_equal_runs(whole[0], finished[0])


def test_max_time_saves_and_stops_and_the_rest_follows(
    whole: tuple[Path, Finished], work: Path, nursery: Nursery
) -> None:
    stopped = nursery.run(*TRAIN, "--max-time", "0s", cwd=work)
    assert stopped.code == EXIT_INTERRUPTED
    assert "stopped by --max-time after step 1 of 9" in stopped.stderr
    resumed = nursery.run(*TRAIN, "--resume", str(only_run(work)), cwd=work)
    assert resumed.code == 0, resumed.stderr
    assert_equal_runs(whole[0], only_run(work))


def test_a_changed_recipe_is_refused_unless_forced(work: Path, nursery: Nursery) -> None:
    assert nursery.run(*TRAIN, "--max-time", "0s", cwd=work).code == EXIT_INTERRUPTED
    run = only_run(work)
    changed = (*TRAIN, "--set", "train.learning_rate=1e-3")
    auto = nursery.run(*changed, "--resume", "auto", "--max-time", "0s", cwd=work)
    assert "no unfinished run of this recipe; starting a new one" in auto.stderr
    refused = nursery.run(*changed, "--resume", str(run), cwd=work)
    assert refused.code == EXIT_FAILED
    assert "was started by a recipe that trains otherwise" in refused.stderr
    assert "--force continues all the same" in refused.stderr
    forced = nursery.run(*changed, "--resume", str(run), "--force", cwd=work)
    assert forced.code == 0, forced.stderr
    finished = nursery.run(*TRAIN, "--resume", str(run), cwd=work)
    assert finished.code == EXIT_FAILED
    assert "is finished" in finished.stderr


def test_an_unfinished_run_is_mentioned_and_a_finished_one_left_alone(
    work: Path, nursery: Nursery
) -> None:
    assert nursery.run(*TRAIN, "--max-time", "0s", cwd=work).code == EXIT_INTERRUPTED
    first = only_run(work)
    state = sorted(path.name for path in first.rglob("*"))
    again = nursery.run(*TRAIN, cwd=work)
    assert again.code == 0
    assert f"{first.relative_to(work)} is unfinished; --resume auto would" in again.stderr
    assert sorted(path.name for path in first.rglob("*")) == state
    assert len(list(first.parent.iterdir())) == 2


def test_a_damaged_state_names_an_older_one(work: Path, nursery: Nursery) -> None:
    command = nursery.start(*TRAIN, "--set", "train.epochs=400", cwd=work)
    log = work / "checkpoints" / "small"
    command.wait_for(lambda: len(list(log.glob("train_*/state/step_*/position.json"))) == 2)
    command.signal(signal.SIGTERM)
    assert command.wait().code == EXIT_INTERRUPTED
    older, newer = sorted(only_run(work).glob("state/step_*"), key=lambda p: int(p.name[5:]))
    weights = newer / "trainable.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    again = nursery.run(
        *TRAIN, "--set", "train.epochs=400", "--resume", "auto", "--max-time", "0s", cwd=work
    )
    assert again.code == EXIT_FAILED
    assert "trainable.safetensors cannot be read" in again.stderr
    assert f"resume from an older state: --resume {older.relative_to(work)}" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--resume", "nowhere"), EXIT_FAILED, "nowhere is not a run folder"),
        (("--max-time", "soon"), EXIT_USAGE, "--max-time soon: expected a time such as"),
        (("--num-processes", "0"), EXIT_USAGE, "Invalid value for '--num-processes'"),
        (("--set", "name=../up"), EXIT_USAGE, "recipe name '../up' cannot name a folder"),
        (("--set", "train.validation_fraction=0.999"), EXIT_FAILED, "holds out all 12 rows"),
        (("--set", "data.method_filter=default"), EXIT_FAILED, "none of its 12 rows can be used"),
        (("--set", "model.path=elsewhere"), EXIT_FAILED, "elsewhere: no such folder"),
        (("--set", "lora.target_modules=[w_proj]"), EXIT_FAILED, "w_proj"),
    ],
)
def test_a_run_that_cannot_start_says_why_and_leaves_no_model(
    work: Path, nursery: Nursery, arguments: tuple[str, ...], code: int, text: str
) -> None:
    done = nursery.run(*TRAIN, *arguments, cwd=work)
    assert (done.code, "Traceback" in done.stderr) == (code, False), done.stderr
    assert text in done.stderr
    assert done.stdout == ""
    assert not list(work.glob("**/final"))


def test_a_loss_that_is_not_finite_names_the_samples(work: Path, nursery: Nursery) -> None:
    done = nursery.run(*TRAIN, "--set", "train.learning_rate=1e30", cwd=work)
    assert done.code == EXIT_FAILED
    assert "is not finite" in done.stderr or "the loss is" in done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert "row" in done.stderr.split("samples ")[1]
    assert "lower train.learning_rate" in done.stderr


def test_two_processes_write_one_run_and_the_same_losses_as_one(
    whole: tuple[Path, Finished], work: Path, nursery: Nursery
) -> None:
    """Dropout draws from each process's own generator, so it is off here."""
    plain = ("--set", "lora.dropout=0.0")
    one = nursery.run(*TRAIN, *plain, cwd=work)
    assert one.code == 0, one.stderr
    first = only_run(work)
    two = run_fresh(*TRAIN, *plain, "--num-processes", "2", cwd=work)
    assert two.code == 0, two.stderr
    assert "starting 2 processes: python -m torch.distributed.run" in two.stderr
    second = next(p for p in first.parent.iterdir() if p != first)
    assert two.stdout.splitlines()[-1] == str((second / "final").relative_to(work))
    manifest = json.loads((second / "manifest.json").read_text())
    assert manifest["processes"] == 2
    assert len(list((second / "state").iterdir())) == 2
    import torch

    states = torch.load(second / "state" / "step_8" / "generators.pt", weights_only=True)
    assert len(states) == 2, "each process saved its generators"
    lines, expected = metrics(second), metrics(first)
    assert len(lines) == len(expected) == 12
    for line, reference in zip(lines, expected, strict=True):
        assert line.keys() == reference.keys()
        for name, value in reference.items():
            assert line[name] == pytest.approx(value, rel=2e-4, abs=1e-6), (name, reference["step"])
    tensors = load_file(second / "final" / "adapter_model.safetensors")
    for name, value in load_file(first / "final" / "adapter_model.safetensors").items():
        assert (tensors[name] - value).abs().max() < 1e-4, name


@pytest.mark.slow
def test_two_interrupted_processes_save_a_state_that_resumes(work: Path) -> None:
    arguments = [*TRAIN, "--num-processes", "2", "--set", "train.epochs=2000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tabom_cli.main", *arguments],
        cwd=work,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log = work / "checkpoints" / "small"
    while not any(p.read_text().count("\n") > 3 for p in log.glob("train_*/metrics.jsonl")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    # What Ctrl-C in a terminal does: the whole foreground process group gets the signal.
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED, stderr
    run = only_run(work)
    newest = max(int(path.name[5:]) for path in run.glob("state/step_*"))
    assert f"stopped by SIGTERM after step {newest} of" in stderr
    logged = max(int(line["step"]) for line in metrics(run))
    assert logged == newest


def test_a_dry_run_shows_everything_and_writes_nothing(work: Path, nursery: Nursery) -> None:
    before = sorted(work.rglob("*"))
    done = nursery.run(*TRAIN, "--dry-run", "--num-processes", "2", "--set", "seed=9", cwd=work)
    assert done.code == 0, done.stderr
    assert sorted(work.rglob("*")) == before
    cells = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines()]
    assert ["seed", "9", "command line"] in cells
    assert ["train.epochs", "3", "recipe"] in cells
    assert ["train.eps", "1e-08", "default"] in cells
    facts = {row[0]: row[1] for row in cells if len(row) == 2}
    assert facts["processes"] == "2"
    assert facts["training rows"] == "9 (and 3 held out)"
    assert facts["optimizer steps"] == "9 (3 per epoch)"
    assert facts["global batch"].startswith("4 = 2 processes x 2 rows x 1 accumulated")
    assert facts["tokens"] == f"at most {3 * 9 * (56 + 12):,}"
    assert facts["parameters"] == "58,720, 1,024 trained"
    assert "GiB" in facts["memory per process"]
    assert facts["launch"].startswith("python -m torch.distributed.run --standalone")
    assert facts["launch"].endswith("train --recipe small.yaml --num-processes 2 --set seed=9")


def test_training_on_failed_answers_is_warned_about(work: Path, nursery: Nursery) -> None:
    rows = trajectory_rows()
    for row in rows[:3]:
        row["verdict"] = "wrong"
    write_lines(work / "rows.jsonl", rows)
    words = f"3 of {len(rows)} rows failed their check (3 wrong)"
    assert words in nursery.run(*TRAIN, "--dry-run", cwd=work).stdout
    assert words in nursery.run(*TRAIN, "--set", "train.max_steps=1", cwd=work).stderr
    filtered = nursery.run(*TRAIN, "--dry-run", "--set", "data.verdicts=[correct]", cwd=work)
    assert "failed their check" not in filtered.stdout
    assert "3 of verdict wrong" in filtered.stdout


def test_the_launch_line_of_a_dry_run_can_be_run(work: Path, nursery: Nursery) -> None:
    shown = nursery.run(*TRAIN, "--dry-run", "--set", "train.max_steps=1", cwd=work).stdout
    (line,) = (row.split("│")[1].strip() for row in shown.splitlines() if row.startswith("launch"))
    done = nursery.run(*line.removeprefix("python -m tabom_cli.main ").split(), cwd=work)
    assert done.code == 0, done.stderr
    assert metrics(only_run(work))[-1]["step"] == 1


def test_one_gpu_and_eight_are_shown_to_take_the_same_steps(work: Path, nursery: Nursery) -> None:
    write_lines(work / "rows.jsonl", trajectory_rows(70))
    shown = {}
    for processes in ("1", "8"):
        values = ("--set", "train.global_batch_size=16", "--num-processes", processes)
        done = nursery.run(*TRAIN, *values, "--dry-run", cwd=work)
        rows = [line.split("│") for line in done.stdout.splitlines()]
        shown[processes] = {row[0].strip(): row[1].strip() for row in rows if len(row) == 2}
    assert shown["1"]["optimizer steps"] == shown["8"]["optimizer steps"]
    assert shown["1"]["global batch"].startswith("16 = 1 processes x 2 rows x 8 accumulated")
    assert shown["8"]["global batch"].startswith("16 = 8 processes x 2 rows x 1 accumulated")
