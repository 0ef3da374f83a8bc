"""Standard output and standard error, on which no write raises.

A result that can't be written is noticed once, at the end, by the exit code; a diagnostic that
can't be written is dropped. So a full disk or a reader that left breaks off nothing half done.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_CLOSED = -1
# Lines of the daemon that wait for a slow reader.
_MOST_WAITING = 10_000
_MOST_WAITING_BYTES = 4 << 20
# For so long a message of a `console` channel waits until it is written.
_DELIVERY_S = 10.0


class Standard(io.RawIOBase):
    """A standard stream by its file descriptor. `write` drops what can't be written.

    `error` is the first failure. With `whole`, nothing is written after it: a result has no holes.
    """

    def __init__(self, descriptor: int, *, whole: bool) -> None:
        self._descriptor = descriptor
        self._whole = whole
        self.error: OSError | None = None
        self.line_open = False  # the last byte written ended no line

    def put(self, data: bytes) -> None:
        """Write all of it. Raises OSError."""
        rest = memoryview(data)
        while rest:
            try:
                number = os.write(self._descriptor, rest)
            except BlockingIOError:  # another process has made the pipe non-blocking
                select.select((), (self._descriptor,), ())
                continue
            self.line_open = rest[number - 1] != ord("\n")
            rest = rest[number:]

    def write(self, data: ReadableBuffer, /) -> int:
        whole = bytes(data)
        if self.error is None or not self._whole:
            try:
                self.put(whole)
            except OSError as error:
                self.error = self.error or error
        return len(whole)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._descriptor == _CLOSED:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._descriptor

    def isatty(self) -> bool:
        return self._descriptor != _CLOSED and os.isatty(self._descriptor)


@dataclass(frozen=True)
class _Entry:
    data: bytes
    written: Future[None] | None = None


class Queued(io.RawIOBase):
    """A stream that a separate thread writes, so that a blocked reader blocks nothing else.

    Entries that find no room, or can't be written, are dropped and counted; `lost(number)` is the
    entry that says how many, before the next one that can be written.
    """

    def __init__(self, under: Standard, lost: Callable[[int], bytes]) -> None:
        self._under = under
        self._lost = lost
        self._waiting: deque[_Entry] = deque()
        self._size = 0
        self._dropped = 0
        self._changed = threading.Condition()
        self._closed = False
        self._idle = True

    def write(self, data: ReadableBuffer, /) -> int:
        whole = bytes(data)
        self._add(_Entry(whole))
        return len(whole)

    def put(self, data: bytes) -> None:
        """Have it written, and wait for that. Raises OSError."""
        written: Future[None] = Future()
        if not self._add(_Entry(data, written)):
            raise OSError(errno.ENOBUFS, "too many lines wait for a reader that doesn't read")
        try:
            written.result(_DELIVERY_S)
        except FutureTimeout:
            written.cancel()
            raise OSError(errno.ETIMEDOUT, "its reader doesn't read") from None
        except CancelledError:
            raise OSError(errno.EPIPE, "the process ends") from None

    def _add(self, entry: _Entry) -> bool:
        with self._changed:
            full = self._size + len(entry.data) > _MOST_WAITING_BYTES
            if self._closed or full or len(self._waiting) >= _MOST_WAITING:
                self._dropped += entry.written is None
                return False
            self._waiting.append(entry)
            self._size += len(entry.data)
            self._changed.notify_all()
            return True

    def work(self) -> None:
        """Write what waits until `finish`: the work of a thread."""
        while True:
            with self._changed:
                self._idle = not self._waiting
                self._changed.notify_all()
                while not self._waiting:
                    if self._closed:
                        return
                    self._changed.wait()
                self._idle = False
                entry = self._waiting.popleft()
                self._size -= len(entry.data)
            if entry.written is None:
                with suppress(OSError):
                    self._write(entry)
            elif entry.written.set_running_or_notify_cancel():
                try:
                    self._write(entry)
                except OSError as error:
                    entry.written.set_exception(error)
                else:
                    entry.written.set_result(None)

    def _write(self, entry: _Entry) -> None:
        try:
            if self._dropped:
                number = self._dropped
                self._put(self._lost(number))
                with self._changed:
                    self._dropped -= number
            self._put(entry.data)
        except OSError:
            with self._changed:
                self._dropped += entry.written is None
            raise

    def _put(self, data: bytes) -> None:
        self._under.put(b"\n" + data if self._under.line_open else data)

    def finish(self, seconds: float) -> None:
        """Take no more, and wait so long until all is written."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            while not self._idle and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._under.fileno()

    def isatty(self) -> bool:
        return self._under.isatty()


@dataclass(frozen=True)
class Streams:
    """The standard streams of this process; None where something else took their place."""

    out: Standard | None
    err: Standard | None

    def unwritten(self) -> OSError | None:
        """Why the result is not written; None if it is, or if its reader left by its own will."""
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        error = self.out.error if self.out else None
        return None if error is None or error.errno == errno.EPIPE else error


@contextmanager
def guarded_streams() -> Iterator[Streams]:
    """Put streams that never raise in the place of standard output and standard error."""
    _occupy()
    before = sys.stdout, sys.stderr
    out, err = _standard(sys.stdout, whole=True), _standard(sys.stderr, whole=False)
    if out is not None:
        sys.stdout = _text(io.BufferedWriter(out), sys.stdout)
    if err is not None:
        sys.stderr = _text(err, sys.stderr, at_once=True)
    try:
        yield Streams(out, err)
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        sys.stdout, sys.stderr = before


@contextmanager
def queued_errors(
    lost: Callable[[int], bytes],
    start: Callable[[Callable[[], None]], None],
    seconds: float,
) -> Iterator[None]:
    """Let a thread write standard error; `start` starts its work, and may restart it.

    In the end what waits is written, for so many seconds at the most.
    """
    under = getattr(sys.stderr, "buffer", None)
    if not isinstance(under, Standard):  # something else took its place
        yield
        return
    before, queued = sys.stderr, Queued(under, lost)
    sys.stderr = _text(queued, before, at_once=True)
    start(queued.work)
    try:
        yield
    finally:
        queued.finish(seconds)
        sys.stderr = before


def deliver(text: str) -> None:
    """Write text to standard error, and know that it was written. Raises OSError."""
    stream: TextIO | None = sys.stderr
    if stream is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    under = getattr(stream, "buffer", None)
    if isinstance(under, Standard | Queued):
        under.put(text.encode(stream.encoding, "backslashreplace"))
        return
    try:
        stream.write(text)
        stream.flush()
    except ValueError as error:
        raise OSError(errno.EBADF, str(error)) from None


def _occupy() -> None:
    """Open what is closed of the three: else the next file or socket becomes, say, standard error.

    Nothing can be written on a standard output that was closed, so that its loss is noticed.
    """
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # gets the lowest free number


def _standard(stream: TextIO | None, *, whole: bool) -> Standard | None:
    """What takes the place of a stream; None if it writes to no file descriptor."""
    if stream is None:  # it was closed when Python started
        return Standard(_CLOSED, whole=whole)
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return Standard(raw.fileno(), whole=whole) if isinstance(raw, io.FileIO) else None


def _text(
    under: io.BufferedWriter | Standard | Queued, before: TextIO | None, *, at_once: bool = False
) -> io.TextIOWrapper:
    """A text stream like the one before; what its encoding doesn't have is written as an escape."""
    return io.TextIOWrapper(
        under,  # type: ignore[arg-type]  # as `python -u` does: a raw stream, and no buffer
        encoding=before.encoding if before else "utf-8",
        errors="backslashreplace",
        line_buffering=bool(before and before.line_buffering),
        write_through=at_once or bool(before and getattr(before, "write_through", False)),
    )
