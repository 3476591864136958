from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_model import toy_policy, toy_rows

from tabom_cli.core import plugins
from tabom_cli.core.errors import Interrupted, RunError
from tabom_cli.core.progress import ProgressEvent
from tabom_cli.core.rundir import RunDir, atomic_folder
from tabom_cli.core.training import job as jobs
from tabom_cli.core.training import loop
from tabom_cli.core.training.config import TrainConfig
from tabom_cli.core.training.stop import StopRequest

CONFIG = TrainConfig(
    epochs=3,
    global_batch_size=8,
    micro_batch_size=4,
    learning_rate=0.01,
    warmup_steps=2,
    precision="float32",
    save_every=2,
)


def make_job(folder: Path, config: TrainConfig = CONFIG, **changes: object) -> jobs.TrainJob:
    folder.mkdir(exist_ok=True)
    module = plugins.load("objective", "tabom")
    settings = module.OBJECTIVE.Config(supervision_window=3, rank_window=3, rank_margin=0.1)
    model = toy_policy(dropout=0.2)

    def save_model(target: Path) -> None:
        with atomic_folder(target, on_existing="replace") as place:
            save_file(dict(model.network.state_dict()), place / "model.safetensors")

    values: dict = {
        "model": model,
        "objective": module.OBJECTIVE(settings),
        "rows": toy_rows(20),
        "validation_rows": toy_rows(3),
        "config": config,
        "response_length": 6,
        "seed": 11,
        "run": RunDir(folder),
        "save_model": save_model,
        "run_name": "toy",
    }
    return jobs.TrainJob(**{**values, **changes})


def run(job: jobs.TrainJob, **options: object) -> jobs.TrainOutcome:
    torch.manual_seed(99)
    accelerator = jobs.make_accelerator(job.config)
    options = {"stop": StopRequest(), **options}
    return loop.train(job, accelerator, **options)


def final_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "final" / "model.safetensors")


class StopAfter(StopRequest):
    """Asks to stop once the given step was shown."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step, self.seen = step, 0

    def progress(self, event: ProgressEvent) -> None:
        if event.kind == "progress":
            self.seen = event.done

    @property
    def reason(self) -> str | None:
        return "the test" if self.seen >= self.step else None


def test_loss_falls_and_every_epoch_is_saved(tmp_path: Path) -> None:
    run(make_job(tmp_path / "a", CONFIG.model_copy(update={"epochs": 12})))
    lines = [json.loads(line) for line in (tmp_path / "a/metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 37))
    assert steps[-1]["loss_ce"] < 0.9 * steps[0]["loss_ce"]
    assert sorted(p.name for p in (tmp_path / "a").glob("epoch_*")) == sorted(
        f"epoch_{n}" for n in range(1, 13)
    )
    validated = [line for line in lines if "validation/loss" in line]
    assert [line["epoch"] for line in validated] == list(range(1, 13))
    assert 0.0 <= validated[0]["validation/ranking_accuracy"] <= 1.0


@pytest.mark.parametrize("stop_step", [1, 2, 3, 5, 8])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, stop_step: int
) -> None:
    run(make_job(tmp_path / "whole"))
    stop = StopAfter(stop_step)
    with pytest.raises(Interrupted, match=f"after step {stop_step} of 9"):
        run(make_job(tmp_path / "parts"), stop=stop, progress=stop.progress)
    state = RunDir(tmp_path / "parts").states()[-1]
    assert state.name == f"step_{stop_step}"
    run(make_job(tmp_path / "parts"), resume_from=state)
    for name, value in final_tensors(tmp_path / "whole").items():
        assert torch.equal(value, final_tensors(tmp_path / "parts")[name]), name
    read = [(tmp_path / f / "metrics.jsonl").read_text() for f in ("whole", "parts")]
    assert read[0] == read[1]


def test_a_crash_after_the_last_state_redoes_the_lost_steps_identically(tmp_path: Path) -> None:
    run(make_job(tmp_path / "whole"))

    def crash(event: ProgressEvent) -> None:
        if event.done == 6:
            raise OSError("power cut")

    with pytest.raises(OSError, match="power cut"):
        run(make_job(tmp_path / "parts"), progress=crash)
    state = RunDir(tmp_path / "parts").states()[-1]
    assert state.name == "step_4"
    run(make_job(tmp_path / "parts"), resume_from=state)
    for name, value in final_tensors(tmp_path / "whole").items():
        assert torch.equal(value, final_tensors(tmp_path / "parts")[name]), name
    read = [(tmp_path / f / "metrics.jsonl").read_text() for f in ("whole", "parts")]
    assert read[0] == read[1]


def test_only_the_last_two_states_are_kept(tmp_path: Path) -> None:
    run(make_job(tmp_path / "a"))
    assert [path.name for path in RunDir(tmp_path / "a").states()] == ["step_6", "step_8"]


def exact(job: jobs.TrainJob) -> jobs.TrainJob:
    """Without dropout and in float64: AdamW turns rounding noise near zero gradients into steps."""
    job.model.network.double()
    job.model.network.dropout.p = 0.0  # type: ignore[union-attr]
    return job


def test_micro_batch_size_does_not_change_the_optimisation(tmp_path: Path) -> None:
    for size in (8, 4, 1):
        config = CONFIG.model_copy(update={"micro_batch_size": size})
        run(exact(make_job(tmp_path / str(size), config)))
    for name, value in final_tensors(tmp_path / "8").items():
        for other in ("4", "1"):
            torch.testing.assert_close(
                value, final_tensors(tmp_path / other)[name], rtol=1e-6, atol=1e-8
            )


def test_a_loss_that_is_not_finite_stops_with_the_sample_ids(tmp_path: Path) -> None:
    job = make_job(tmp_path / "a")
    with torch.no_grad():
        job.model.network.head.bias[3] = float("nan")  # type: ignore[union-attr, index]
    with pytest.raises(RunError, match=r"step 1: the loss is nan \(samples row\d+, row") as caught:
        run(job)
    assert "learning_rate" in (caught.value.hint or "")
    assert not (tmp_path / "a/final").exists()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("optimizer.pt", lambda path: path.write_bytes(path.read_bytes()[:50])),
        ("trainable.safetensors", lambda path: path.write_bytes(path.read_bytes()[:50])),
        ("position.json", lambda path: path.unlink()),
        ("generators.pt", lambda path: path.write_bytes(b"")),
    ],
)
def test_a_damaged_state_is_named_and_the_older_one_offered(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    run(make_job(tmp_path / "a"))
    state = RunDir(tmp_path / "a").states()[-1]
    damage(state / name)
    with pytest.raises(RunError, match=name) as caught:
        run(make_job(tmp_path / "a"), resume_from=state)
    assert "state/step_6" in (caught.value.hint or "")


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    run(make_job(tmp_path / "a"))
    state = RunDir(tmp_path / "a").states()[-1]
    job = make_job(tmp_path / "b")
    job.model.network.head = torch.nn.Linear(8, 21)  # type: ignore[assignment]
    with pytest.raises(RunError, match=r"2 tensors differ, the first is network.head.bias"):
        run(job, resume_from=state)


def test_max_time_is_a_reason_to_stop() -> None:
    assert StopRequest(max_time_s=0.0).reason == "--max-time"
    assert StopRequest(max_time_s=60.0).reason is None


def test_worker_processes_that_prepare_ahead_change_nothing(tmp_path: Path) -> None:
    run(make_job(tmp_path / "alone"))
    run(make_job(tmp_path / "helped", CONFIG.model_copy(update={"prepare_workers": 2})))
    for name, value in final_tensors(tmp_path / "alone").items():
        assert torch.equal(value, final_tensors(tmp_path / "helped")[name]), name
    read = [(tmp_path / f / "metrics.jsonl").read_text() for f in ("alone", "helped")]
    assert read[0] == read[1]
