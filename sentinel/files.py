"""The files that Sentinel writes, and those it reads on somebody's word: regular files, nothing else.

Other users of this machine may be able to write into a folder that Sentinel writes to. They can
plant a link to a file of its user, a pipe whose reader never comes, a file of their own to read
along, or hold a lock. So a file is opened through folders and links whose owner could have put it
there anyway, without following a link at its end, without waiting, and only if it is a regular
file; it belongs to this user, has one name, and only this user reads it, whatever the umask.

Every function raises OSError, whose `strerror` says what is wrong with which file: `Refused` where
the file is one that Sentinel doesn't touch, `Busy` where another process has locked it for too long.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

PRIVATE = 0o600
# For what is shared by the people of a project, as by git: nobody else may write it.
SHARED = 0o644
_MOST_LINKS = 40
_PAUSE_S = 0.05
_PIECE = 1 << 20
# Opens a folder to look names up in it, which needs no right to list it.
_LOOK = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Refused(OSError):
    """A file that Sentinel neither reads nor writes."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(errno.EPERM, why, str(path))


class Busy(OSError):
    """A file that another process has locked."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EAGAIN, "another process has locked it", str(path))


def read(path: Path, *, most: int | None = None) -> bytes:
    """A regular file, at most `most` bytes of it; links are followed."""
    if not stat.S_ISREG(path.stat().st_mode):  # some devices act when they are opened
        raise Refused(path, "it is not a regular file")
    with _closing(os.open(path, os.O_RDONLY | _PLAIN & ~os.O_NOFOLLOW)) as handle:
        _check_regular(path, os.fstat(handle))
        pieces, size = [], 0
        while piece := os.read(handle, _PIECE if most is None else min(_PIECE, most + 1 - size)):
            pieces.append(piece)
            size += len(piece)
            if most is not None and size > most:
                raise Refused(path, f"it is larger than {most:,} bytes")
    return b"".join(pieces)


def replace(path: Path, content: bytes, *, mode: int = PRIVATE, sync: bool = False) -> None:
    """Put a file in place in one step; a link or a pipe of that name is replaced, not followed.

    `sync` makes sure that it outlives a failure of the machine. The folder has to be there.
    """
    with _folder(path) as folder:
        name = f".{path.name}.{secrets.token_hex(6)}"
        created = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN
        with _closing(os.open(name, created, PRIVATE, dir_fd=folder)) as handle:
            try:
                os.fchmod(handle, mode)
                _write(handle, content)
                if sync:
                    os.fsync(handle)
                os.replace(name, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)
                raise


def followed(path: Path) -> Path:
    """Where a link leads, for a file that people keep elsewhere; any other path as it is."""
    for links in range(_MOST_LINKS):
        with _folder(path) as folder:
            try:
                found = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                return path
            if not stat.S_ISLNK(found.st_mode):
                return path
            path = path.parent / _target(path, path.name, folder, links)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def remove(path: Path) -> None:
    """Take away a file, if it is there; of a link, the link."""
    with suppress(FileNotFoundError), _folder(path) as folder:
        os.unlink(path.name, dir_fd=folder)


def append(path: Path, content: bytes, *, patience: timedelta) -> None:
    """All of the content at the end of a file and safe on the disk, or nothing of it."""
    with locked(path, patience=patience) as handle:
        before = os.fstat(handle).st_size
        os.lseek(handle, 0, os.SEEK_END)
        try:
            _write(handle, content)
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, before)
            raise


@contextmanager
def locked(
    path: Path, *, patience: timedelta, waiting: Callable[[], None] | None = None
) -> Iterator[int]:
    """A file of this process alone, made if missing. `waiting` is called where it has to wait."""
    handle = lock(path, patience=patience, waiting=waiting)
    if handle is None:
        raise Busy(path)
    with _closing(handle):
        yield handle


def lock(
    path: Path,
    *,
    patience: timedelta = timedelta(),
    waiting: Callable[[], None] | None = None,
) -> int | None:
    """The handle of a file that is locked as long as it is open; None if another process has it."""
    deadline = time.monotonic() + patience.total_seconds()
    handle = _open_own(path)
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(handle)
                    return None
            else:
                return handle
            if waiting is not None:
                waiting()
                waiting = None
            time.sleep(_PAUSE_S)
    except BaseException:
        with suppress(OSError):
            os.close(handle)
        raise


def make_folder(path: Path, *, mode: int = 0o755) -> None:
    """Make a folder and those above it, in which nobody else may write, whatever the umask."""
    if not path.is_dir():
        make_folder(path.parent, mode=mode)
        with _folder(path) as folder, suppress(FileExistsError):
            os.mkdir(path.name, mode, dir_fd=folder)


def make_private_folder(path: Path) -> None:
    """Make a folder, and see to it that it is no link, this user's, and closed to others."""
    make_folder(path.parent)
    with _folder(path) as folder:
        with suppress(FileExistsError):
            os.mkdir(path.name, 0o700, dir_fd=folder)
        found = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            raise Refused(path, "it is not a folder; remove it")
        if not _trusted(found.st_uid, folder):
            raise Refused(path, "it belongs to another user; remove it")
        if stat.S_IMODE(found.st_mode) != 0o700:
            handle = os.open(path.name, os.O_RDONLY | _LOOK & ~getattr(os, "O_PATH", 0),
                             dir_fd=folder)  # fmt: skip
            with _closing(handle):
                os.fchmod(handle, 0o700)


def take_links_out(folder: Path) -> None:
    """Remove from a folder of this user everything that is neither a folder nor a plain file.

    For folders in which other programs write, which follow links.
    """
    for root, _, names in os.walk(folder):
        for name in (*_, *names):
            path = Path(root, name)
            found = path.lstat()
            plain = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
            if not plain and not stat.S_ISDIR(found.st_mode):
                path.unlink()


def _open_own(path: Path) -> int:
    """Open to read and write what belongs to this user, making it if missing."""
    with _folder(path) as folder:
        for _ in range(_MOST_LINKS):  # where it is made or removed by another process meanwhile
            try:
                handle = os.open(path.name, os.O_RDWR | _PLAIN, dir_fd=folder)
            except FileNotFoundError:
                created = os.O_RDWR | os.O_CREAT | os.O_EXCL | _PLAIN
                try:
                    handle = os.open(path.name, created, PRIVATE, dir_fd=folder)
                except FileExistsError:
                    continue
                os.fchmod(handle, PRIVATE)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EMLINK):
                    raise Refused(path, "it is a link; remove it") from None
                if error.errno in (errno.ENXIO, errno.EISDIR):
                    raise Refused(path, "it is not a regular file; remove it") from None
                raise
            try:
                found = os.fstat(handle)
                _check_regular(path, found)
                if found.st_nlink > 1:
                    raise Refused(path, "it has several names (hard links); remove it")
                if not _trusted(found.st_uid, folder):
                    raise Refused(path, "it belongs to another user; remove it")
            except BaseException:
                os.close(handle)
                raise
            return handle
    raise Busy(path)


def _check_regular(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Refused(path, "it is not a regular file")


def _trusted(owner: int, folder: int) -> bool:
    """Whether a user could have put anything into a folder anyway: this user, root, its owner."""
    above = os.fstat(folder)
    shared = above.st_mode & stat.S_ISVTX and above.st_mode & stat.S_IWOTH
    return owner in (os.geteuid(), 0) or (owner == above.st_uid and not shared)


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    """The folder that a path is in, reached without a link that another user may have planted."""
    absolute = Path.cwd() / path
    waiting = [part for part in reversed(absolute.parent.parts) if part != absolute.anchor]
    links = 0
    handle = os.open(absolute.anchor, _LOOK)
    try:
        while waiting:
            name = waiting.pop()
            try:
                found = os.open(name, _LOOK, dir_fd=handle)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.EMLINK):
                    raise OSError(error.errno, error.strerror, str(path)) from None
                links += 1
                target = Path(_target(path, name, handle, links))
                waiting += [part for part in reversed(target.parts) if part != target.anchor]
                if not target.is_absolute():
                    continue
                found = os.open(target.anchor, _LOOK)
            os.close(handle)
            handle = found
        yield handle
    finally:
        os.close(handle)


def _target(path: Path, name: str, folder: int, links: int) -> str:
    """The target of a link in a path."""
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    if links > _MOST_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if not _trusted(found.st_uid, folder):
        raise Refused(path, f"`{name}` in its path is a link of another user; remove it")
    return os.readlink(name, dir_fd=folder)


def _write(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]


@contextmanager
def _closing(handle: int) -> Iterator[int]:
    try:
        yield handle
    finally:
        os.close(handle)
