"""The sandbox against a corpus of hostile programs, and its answers to ordinary ones."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from hostile_programs import HEADER, PROGRAMS

from tabom_cli.core import sandbox, sandbox_command, sandbox_probe, sandbox_seccomp
from tabom_cli.core.errors import EnvironmentNotReady
from tabom_cli.core.sandbox import Limits, run_python, why_unavailable

TIGHT = Limits(time_s=3.0, memory_mib=192, output_kib=32, processes=12)
needs_sandbox = pytest.mark.skipif(
    why_unavailable() is not None, reason=f"no sandbox here: {why_unavailable()}"
)


@dataclass(frozen=True)
class Host:
    folder: Path
    sentinel: Path
    header: str
    abstract: str


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("host")
    folder.chmod(0o777)
    sentinel = folder / "sentinel"
    sentinel.write_text("untouched")
    sentinel.chmod(0o666)
    os.environ["TABOM_SECRET"] = "secret"
    abstract = f"\0tabom-{secrets.token_hex(4)}"
    with socket.socket() as server, socket.socket(socket.AF_UNIX) as local:
        server.bind(("127.0.0.1", 0))
        server.listen()
        local.bind(abstract)
        local.listen()
        names = {
            "SENTINEL": str(sentinel),
            "PORT": server.getsockname()[1],
            "PARENT": os.getpid(),
            "REPOSITORY": str(Path(__file__).parents[2]),
            "HOME": str(Path.home()),
            "BASE": os.path.realpath(sys.base_prefix),
            "ABSTRACT": abstract,
        }
        header = "".join(f"{name} = {value!r}\n" for name, value in names.items()) + HEADER
        yield Host(folder, sentinel, header, abstract)
    del os.environ["TABOM_SECRET"]


def _living(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "cmdline").read_text():
                found.append(entry.name)
        except (OSError, UnicodeDecodeError):
            continue
    return found


def _survivors(mark: str) -> list[str]:
    deadline = time.monotonic() + 5
    while (found := _living(mark)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


@needs_sandbox
@pytest.mark.parametrize("name", PROGRAMS)
def test_hostile_program_ends_as_a_result_and_changes_nothing(name: str, host: Host) -> None:
    ends, body = PROGRAMS[name]
    # The mark is the file limit on the command line of every process that does not exec, and the
    # argument of those that do.
    mark = str(secrets.randbelow(10**6) + 10**6)
    limits = Limits(
        TIGHT.time_s if "timeout" not in ends else 1.0,
        TIGHT.memory_mib,
        TIGHT.output_kib,
        TIGHT.processes,
        files_kib=4096,
    )
    started = time.monotonic()
    result = run_python(f"{host.header}MARK = {mark!r}\n{body}\n", limits=limits)
    assert result.status in ends, result
    assert "ESCAPED" not in result.stdout, result.stdout
    assert time.monotonic() - started < limits.time_s + 6
    assert len(result.stdout) + len(result.stderr) <= limits.output_kib * 1024
    assert _survivors(mark) == []
    assert host.sentinel.read_text() == "untouched"
    assert [path.name for path in host.folder.iterdir()] == ["sentinel"]
    assert not Path("/usr/owned").exists()
    assert not (Path(sys.base_prefix) / "owned").exists()


@needs_sandbox
@pytest.mark.parametrize("name", ["fork_bomb_that_catches", "count_forks", "memory_in_children"])
def test_no_forked_process_survives(name: str, host: Host) -> None:
    files_kib = 4097 + secrets.randbelow(10**5)
    limits = Limits(1.0, 192, 32, 12, files_kib)
    run_python(f"{host.header}MARK = ''\n{PROGRAMS[name][1]}\n", limits=limits)
    assert _survivors(str(files_kib * 1024)) == []


def test_the_corpus_holds_at_least_forty_programs() -> None:
    assert len(PROGRAMS) >= 40


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="only where CI=true promises a sandbox")
def test_continuous_integration_has_a_sandbox() -> None:
    assert why_unavailable() is None


@needs_sandbox
def test_program_gets_input_and_gives_output() -> None:
    result = run_python("import sys\nprint(sys.stdin.read()[::-1], __name__)", stdin="abc")
    assert (result.status, result.exit_code, result.stdout) == ("ok", 0, "cba __main__\n")
    assert 0 < result.time_s < 10


@needs_sandbox
def test_long_input_is_passed_whole_while_output_is_read() -> None:
    text = "x" * 300_000
    result = run_python("import sys\nprint(len(sys.stdin.read()))", stdin=text)
    assert result.stdout == "300000\n"


@needs_sandbox
def test_long_program_is_passed_whole() -> None:
    source = "x = 1\n" * 200_000 + "print(x)"
    assert run_python(source).stdout == "1\n"


@needs_sandbox
@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("assert 1 == 2", "AssertionError"),
        ("1 / 0", "ZeroDivisionError"),
        ("def f(:", "SyntaxError"),
        ("import torch", "ModuleNotFoundError"),
        ("\0", "null bytes"),
        ("x = '\ud800'", "SyntaxError"),
        ("import sys; sys.exit(3)", ""),
    ],
)
def test_failing_program_says_why(source: str, word: str) -> None:
    result = run_python(source)
    assert result.status == "failed"
    assert word in result.stderr


@needs_sandbox
def test_names_of_the_bootstrap_are_not_visible() -> None:
    result = run_python("import sys\nprint(sorted(globals()), sys.argv)")
    assert "_start" not in result.stdout
    assert "resource" not in result.stdout
    assert "'os'" not in result.stdout
    assert result.stdout.rstrip().endswith("['-c']")


@needs_sandbox
def test_output_is_kept_up_to_the_cap() -> None:
    result = run_python("print('y' * 100_000)", limits=Limits(output_kib=1))
    assert result.status == "output"
    assert result.stdout == "y" * 1024


@needs_sandbox
def test_memory_limit_is_a_number_that_binds() -> None:
    source = "x = bytearray(150 * 2**20)\nprint(len(x))"
    assert run_python(source, limits=Limits(memory_mib=512)).status == "ok"
    assert run_python(source, limits=Limits(memory_mib=100)).status == "memory"


@needs_sandbox
def test_processes_run_as_nobody_on_the_host(host: Host) -> None:
    files_kib = 4097 + secrets.randbelow(10**5)
    mark = str(files_kib * 1024)
    thread = threading.Thread(
        target=run_python,
        args=("import time\ntime.sleep(2)",),
        kwargs={"limits": Limits(2.0, files_kib=files_kib)},
    )
    thread.start()
    try:
        deadline = time.monotonic() + 2
        users: set[int] = set()
        while time.monotonic() < deadline and not users:
            for number in _living(mark):
                text = (Path("/proc") / number / "status").read_text()
                name = text.splitlines()[0].split()[1]
                if name.startswith("python"):
                    users.add(int(text.split("Uid:")[1].split()[0]))
        assert users == {os.getuid() or sandbox_command.NOBODY}
    finally:
        thread.join()


@needs_sandbox
def test_sandboxes_in_threads_do_not_mix() -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda n: run_python(f"print({n})"), range(12)))
    assert [result.stdout for result in results] == [f"{n}\n" for n in range(12)]


@needs_sandbox
def test_no_descriptor_is_left_open() -> None:
    run_python("pass")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        run_python("pass")
        run_python("while True: pass", limits=Limits(time_s=0.2))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give up being root")
@needs_sandbox
@pytest.mark.parametrize("dropper", sandbox_command.root_droppers())
def test_each_way_to_give_up_root_passes_the_probe(dropper: str) -> None:
    bubblewrap = sandbox_command.find_bubblewrap()
    assert bubblewrap is not None
    launcher = sandbox._Launcher(bubblewrap, dropper)
    assert sandbox_probe.judge_probe(lambda source: sandbox._probe_run(launcher, source)) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="shows what root without the nesting could do")
@needs_sandbox
def test_probe_sees_root_that_only_unshares(monkeypatch: pytest.MonkeyPatch) -> None:
    bubblewrap = sandbox_command.find_bubblewrap()
    assert bubblewrap is not None

    def plain(found, arguments, *, dropper, seccomp_fd=None):  # type: ignore[no-untyped-def]
        command = [str(found.path), "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc"]
        return [*command, sys.executable, "-I", "-S", *arguments]

    monkeypatch.setattr(sandbox, "sandbox_command", plain)
    launcher = sandbox._Launcher(bubblewrap, None)
    reason = sandbox_probe.judge_probe(lambda source: sandbox._probe_run(launcher, source))
    assert reason is not None
    assert "capabilities" in reason
    assert "read_host" in reason


@pytest.fixture
def unprobed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_probed", [])


@pytest.mark.usefixtures("unprobed")
def test_nothing_runs_where_bubblewrap_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "find_bubblewrap", lambda: None)
    assert "bubblewrap is missing" in str(why_unavailable())
    with pytest.raises(EnvironmentNotReady, match="bubblewrap is missing") as caught:
        run_python("open('/tmp/ran', 'w')")
    assert caught.value.hint is not None


@pytest.mark.usefixtures("unprobed")
def test_nothing_runs_where_the_kernel_refuses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refusing = tmp_path / "bwrap"
    refusing.write_text(
        "#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n"
    )
    refusing.chmod(0o755)
    found = sandbox_command.Bubblewrap(refusing, is_bundled=False)
    monkeypatch.setattr(sandbox, "find_bubblewrap", lambda: found)
    assert "No permissions to create a new namespace" in str(why_unavailable())
    with pytest.raises(EnvironmentNotReady):
        run_python("pass")


@pytest.mark.usefixtures("unprobed")
def test_the_probe_runs_once_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def judge(run: object) -> None:
        calls.append(1)

    monkeypatch.setattr(sandbox, "judge_probe", judge)
    why_unavailable()
    why_unavailable()
    assert len(calls) == 1


def test_missing_setpriv_leaves_another_way_to_give_up_root(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox_command.shutil, "which", lambda name: None)
    assert sandbox_command.root_droppers() == ["python"]


def test_command_line_has_every_protection() -> None:
    found = sandbox_command.Bubblewrap(Path("/opt/bwrap"), is_bundled=False)
    command = sandbox_command.sandbox_command(found, ["-c", "pass"], dropper=None, seccomp_fd=9)
    for flag in (
        "--unshare-user --unshare-all --disable-userns --uid 65534 --gid 65534 --cap-drop ALL",
        "--die-with-parent --new-session --clearenv --setenv PATH /usr/bin --ro-bind /usr /usr",
        "--proc /proc --dev /dev --size 8388608 --tmpfs /tmp --size 1048576 --tmpfs /dev/shm",
        "--remount-ro /dev",
        "--chdir /tmp --seccomp 9",
        "-I -S -c pass",
    ):
        assert flag in " ".join(command)


def _simulated(program: bytes, architecture: int, number: int) -> int:
    """What the kernel would answer: the filter run instruction by instruction."""
    import struct

    instructions = list(struct.iter_unpack("=HBBI", program))
    position, value = 0, 0
    while True:
        code, yes, no, operand = instructions[position]
        if code == 0x20:
            value, step = (number if operand == 0 else architecture), 0
        elif code == 0x15:
            step = yes if value == operand else no
        elif code == 0x35:
            step = yes if value >= operand else no
        else:
            return operand
        position += 1 + step


@pytest.mark.parametrize(
    ("machine", "architecture", "refused", "allowed"),
    [
        ("x86_64", 0xC000003E, (29, 101, 250, 425, 447, 0x40000000), (0, 1, 9, 56, 57, 59, 231)),
        ("aarch64", 0xC00000B7, (194, 117, 219, 425), (63, 64, 93, 172, 221, 222)),
    ],
)
def test_filter_refuses_its_calls_and_no_other(
    machine: str, architecture: int, refused: tuple[int, ...], allowed: tuple[int, ...]
) -> None:
    program = sandbox_seccomp.seccomp_filter(machine)
    assert program is not None
    assert {_simulated(program, architecture, n) for n in refused} == {0x00050001}
    assert {_simulated(program, architecture, n) for n in allowed} == {0x7FFF0000}
    assert _simulated(program, 0x40000003, 1) == 0x80000000  # 32-bit x86


def test_unknown_machine_has_no_filter() -> None:
    assert sandbox_seccomp.seccomp_filter("z80") is None
