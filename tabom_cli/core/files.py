"""Files and folders that are either whole or absent, whatever stops the process.

Knows nothing about runs, recipes or tensors. One process writes one target at a time; a leftover of
a killed process (`.<name>.partial-<pid>`) is never read and is removed by the next write.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from tabom_cli.core.errors import RunError, TabomError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FULL_TEXTS = tuple(os.strerror(number) for number in sorted(_FULL))


def write_text_atomic(path: Path | str, text: str) -> None:
    """Write a UTF-8 text file with `write_bytes_atomic`."""
    write_bytes_atomic(path, text.encode("utf-8"))


def write_bytes_atomic(path: Path | str, content: bytes) -> None:
    """Write a file so that readers see the old content or the new, never a part.

    Raises:
        RunError: The disk is full or the place cannot be written; the old file is untouched.
    """
    target = Path(path)
    with os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = _fresh_partial(target)
        try:
            with partial.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)


def write_json_atomic(path: Path | str, value: Any) -> None:
    """Write indented JSON with `write_text_atomic`; NaN and infinities are refused."""
    write_text_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


@contextmanager
def atomic_folder(
    target: Path | str, *, on_existing: Literal["refuse", "replace"] = "refuse"
) -> Iterator[Path]:
    """A temporary sibling to fill, renamed to `target` when the block ends without an exception.

    Args:
        target: The final folder.
        on_existing: `refuse` an existing target, or `replace` it (a resumed run writes the same
            epoch again); the old content is removed only after the new one is complete.

    Yields:
        The folder to write into.

    Raises:
        RunError: The target exists, the disk is full, or another fault of the file system; the
            half-written folder is removed and an existing target is untouched.
    """
    target = Path(target)
    _refuse_existing(target, on_existing)
    with os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = _fresh_partial(target)
        partial.mkdir()
        try:
            yield partial
            _sync_tree(partial)
            _refuse_existing(target, on_existing)
            if _exists(target):
                old = target.parent / f".{target.name}.partial-{os.getpid()}-old"
                os.rename(target, old)
                os.rename(partial, target)
                _remove(old)
            else:
                os.rename(partial, target)
        except BaseException:
            _remove(partial)
            raise
        _sync_folder(target.parent)


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes in hexadecimal, read in pieces."""
    with os_errors(Path(path)), Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def disk_free_check(path: Path | str, needed_bytes: int) -> None:
    """Refuse when the disk of `path` (which need not exist yet) has less than `needed_bytes` free.

    Raises:
        RunError: Too little space; the message names both figures in MiB.
    """
    free = free_bytes(path)
    if free < needed_bytes:
        raise RunError(
            f"{path}: {needed_bytes / 2**20:.0f} MiB are needed and {free / 2**20:.0f} MiB are free",
            hint="free space on this disk or write to another one",
        )


def free_bytes(path: Path | str) -> int:
    """Bytes free for this user on the disk that holds `path` or its nearest existing parent."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


@contextmanager
def exclusive_lock(path: Path | str) -> Iterator[None]:
    """Hold a lock file while the block runs, then remove it; the system drops it when the process dies.

    Args:
        path: `FOLDER/.lock` guards the folder, `FOLDER/.NAME.lock` the file NAME.

    Raises:
        RunError: Another process holds it.
    """
    path = Path(path)
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(path)
    if descriptor is None:
        guarded = path.parent / path.name.removesuffix(".lock").removeprefix(".")
        raise RunError(
            f"{guarded}: another process is writing here",
            hint="wait for it to finish or choose another output",
        )
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """Turn faults of the file system, also those other libraries report, into RunError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            raise _full(path, reason) from error
        raise RunError(
            f"{error.filename or path}: {reason}",
            hint="check that the place exists and is writable",
        ) from error
    except TabomError:
        raise
    except Exception as error:
        # torch, safetensors and tokenizers report a full disk with exception types of their own.
        reason = next((text for text in _FULL_TEXTS if text in str(error)), "")
        if reason or free_bytes(path) < 2**16:
            raise _full(path, reason or os.strerror(errno.ENOSPC)) from error
        raise


def _locked(path: Path) -> int | None:
    """Descriptor of the lock file, locked; None when another process holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass  # Its last holder removed the file between our open and our lock.
        os.close(descriptor)


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _refuse_existing(target: Path, on_existing: str) -> None:
    if on_existing == "refuse" and _exists(target):
        raise RunError(
            f"{target} exists and is not overwritten",
            hint="move it away or choose another output folder",
        )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _fresh_partial(target: Path) -> Path:
    """The temporary name of this process, after removing those of dead ones."""
    prefix = f".{target.name}.partial-"
    for sibling in sorted(target.parent.iterdir()):
        if sibling.name.startswith(prefix):
            pid, _, role = sibling.name[len(prefix) :].partition("-")
            if pid.isdigit() and (int(pid) == os.getpid() or not _alive(int(pid))):
                if role == "old" and not _exists(target):
                    # Killed between the two renames of a replacement: the old content is whole.
                    os.rename(sibling, target)
                else:
                    _remove(sibling)
    return target.parent / f"{prefix}{os.getpid()}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _full(path: Path, reason: str) -> RunError:
    return RunError(
        f"{path}: {reason} ({free_bytes(path) / 2**20:.0f} MiB free); nothing was written there",
        hint="free space on this disk and run again; what was saved before is untouched",
    )
