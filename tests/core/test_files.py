"""Whole or absent, whatever stops the process."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tabom_cli.core import files
from tabom_cli.core.errors import RunError
from tabom_cli.core.files import (
    atomic_folder,
    disk_free_check,
    exclusive_lock,
    file_sha256,
    write_json_atomic,
    write_text_atomic,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run_python(source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_text_replaces_the_old_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    write_text_atomic(target, "one\n")
    write_text_atomic(target, "two \u00e9\n")
    assert target.read_bytes() == "two \u00e9\n".encode()
    assert names(target.parent) == ["a.txt"]


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path: Path) -> None:
    write_json_atomic(tmp_path / "a.json", {"loss": 1.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_atomic(tmp_path / "a.json", {"loss": float("nan")})
    assert (tmp_path / "a.json").read_text() == '{\n  "loss": 1.5\n}\n'


def test_a_full_disk_keeps_the_old_file_and_says_how_much_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.txt"
    write_text_atomic(target, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(RunError, match=r"No space left on device \(\d+ MiB free\)") as caught:
        write_text_atomic(target, "new")
    assert "free space" in str(caught.value.hint)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_real_write_limit_ends_in_a_run_error_without_leftovers(tmp_path: Path) -> None:
    """The kernel refuses the write itself (EFBIG), as it does on a full disk."""
    done = run_python(
        """
        import resource, sys
        from tabom_cli.core.errors import RunError
        from tabom_cli.core.files import atomic_folder, write_text_atomic
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        for attempt in ("file", "folder"):
            try:
                if attempt == "file":
                    write_text_atomic(sys.argv[1] + "/big.txt", "x" * 100_000)
                else:
                    with atomic_folder(sys.argv[1] + "/epoch_1") as folder:
                        (folder / "weights").write_bytes(b"x" * 100_000)
            except RunError as error:
                print(error.message, "|", error.hint)
        """,
        str(tmp_path),
    )
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert "big.txt: File too large" in first
    assert "epoch_1: File too large" in second
    assert "free space" in first
    assert names(tmp_path) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096


def test_a_library_that_reports_a_full_disk_in_its_own_words_is_understood(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match="No space left on device"),
        atomic_folder(tmp_path / "epoch_1"),
    ):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    assert names(tmp_path) == []


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "run" / "epoch_1"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("1")
        (folder / "sub").mkdir()
        (folder / "sub" / "b").write_text("2")
        assert not target.exists()
    assert (target / "sub" / "b").read_text() == "2"
    assert names(target.parent) == ["epoch_1"]


def test_an_error_inside_leaves_no_folder_and_keeps_its_type(tmp_path: Path) -> None:
    with pytest.raises(KeyError), atomic_folder(tmp_path / "epoch_1") as folder:  # noqa: PT012
        (folder / "a").write_text("1")
        raise KeyError("loss")
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["folder", "file", "broken link"])
def test_an_existing_target_is_refused_before_anything_is_written(
    tmp_path: Path, kind: str
) -> None:
    target = tmp_path / "final"
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_text("mine")
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(RunError, match="exists and is not overwritten"), atomic_folder(target):
        pytest.fail("the block must not run")
    assert names(tmp_path) == ["final"]


def test_a_target_made_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "final"
    with pytest.raises(RunError, match="exists"), atomic_folder(target) as folder:  # noqa: PT012
        (folder / "a").write_text("ours")
        target.mkdir()
        (target / "a").write_text("theirs")
    assert (target / "a").read_text() == "theirs"
    assert names(tmp_path) == ["final"]


def test_replacing_removes_the_old_content_only_after_success(tmp_path: Path) -> None:
    target = tmp_path / "epoch_1"
    with atomic_folder(target) as folder:
        (folder / "old").write_text("1")
    with pytest.raises(KeyError), atomic_folder(target, on_existing="replace") as folder:
        raise KeyError
    assert names(target) == ["old"]
    with atomic_folder(target, on_existing="replace") as folder:
        (folder / "new").write_text("2")
    assert names(target) == ["new"]
    assert names(tmp_path) == ["epoch_1"]


def test_a_leftover_of_a_killed_process_is_invisible_and_removed_next_time(tmp_path: Path) -> None:
    source = """
        import sys, time
        from tabom_cli.core.files import atomic_folder
        with atomic_folder(sys.argv[1] + "/epoch_1") as folder:
            (folder / "half").write_text("x")
            print("ready", flush=True)
            time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    living = [path for path in tmp_path.iterdir() if str(process.pid) in path.name]
    assert len(living) == 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "epoch_1").exists()
    assert len(names(tmp_path)) == 1
    with atomic_folder(tmp_path / "epoch_1") as folder:
        (folder / "whole").write_text("x")
    assert names(tmp_path) == ["epoch_1"]
    assert names(tmp_path / "epoch_1") == ["whole"]


def test_the_partial_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    living = tmp_path / f".epoch_1.partial-{os.getppid()}"
    living.mkdir()
    with atomic_folder(tmp_path / "epoch_1"):
        pass
    assert living.is_dir()


def test_a_kill_between_the_two_renames_of_a_replacement_loses_nothing(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    old = tmp_path / f".epoch_1.partial-{dead.pid}-old"
    old.mkdir()
    (old / "weights").write_text("old")
    with pytest.raises(KeyError), atomic_folder(tmp_path / "epoch_1", on_existing="replace"):
        raise KeyError
    assert (tmp_path / "epoch_1" / "weights").read_text() == "old"


def test_a_place_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(RunError, match=r"a.*(Not a directory|File exists)"):
        write_text_atomic(tmp_path / "a" / "b.txt", "x")


def test_sha256_of_abc_is_the_published_one(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    with pytest.raises(RunError, match="No such file"):
        file_sha256(tmp_path / "nothing")


def test_disk_check_works_for_a_place_that_does_not_exist_yet(tmp_path: Path) -> None:
    disk_free_check(tmp_path / "a" / "b", 1)
    with pytest.raises(RunError, match="1099511627776 MiB are needed"):
        disk_free_check(tmp_path / "a" / "b", 2**60)


def test_a_lock_is_held_by_one_process_and_ends_with_it(tmp_path: Path) -> None:
    source = """
        import sys, time
        from tabom_cli.core.files import exclusive_lock
        with exclusive_lock(sys.argv[1]):
            print("ready", flush=True)
            time.sleep(60)
    """
    lock = tmp_path / "run" / ".lock"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), str(lock)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    message = f"^{re.escape(str(lock.parent))}: another process is writing here"
    with pytest.raises(RunError, match=message), exclusive_lock(lock):
        pytest.fail("two holders")
    process.kill()
    process.wait()
    time.sleep(0.01)
    with exclusive_lock(lock):
        assert lock.exists()
    assert not lock.exists()


def test_a_lock_of_a_file_names_the_file(tmp_path: Path) -> None:
    lock = tmp_path / ".rows.jsonl.lock"
    message = f"^{re.escape(str(tmp_path / 'rows.jsonl'))}: another process is writing here"
    with exclusive_lock(lock):
        for _ in range(2):
            with pytest.raises(RunError, match=message), exclusive_lock(lock):
                pytest.fail("two holders")
        assert lock.exists()


def test_locks_that_are_removed_never_have_two_holders(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    holders: list[int] = []
    most: list[int] = []

    def take(number: int) -> int:
        taken = 0
        for _ in range(300):
            with contextlib.suppress(RunError), exclusive_lock(lock):
                holders.append(number)
                time.sleep(0)
                most.append(len(holders))
                holders.remove(number)
                taken += 1
        return taken

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(take, range(4))) == len(most) > 0
    assert set(most) == {1}
