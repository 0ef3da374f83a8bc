"""DuckDB: the embedded default. One file, which one process at a time may write.

The keys of a dbt-duckdb profile that shape a connection are honoured: path, config_options,
extensions, settings, attach.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from sentinel.core.errors import ConfigError, WarehouseError, WarehouseLocked
from sentinel.ports import Session
from sentinel.warehouses.session import SqlSession, own_words

DIALECT = "duckdb"
_SAY_AGAIN_S = 5.0
_UNSUPPORTED = ("remote", "plugins", "filesystems", "secrets", "is_ducklake")
_LOCKED = re.compile(
    r"Could not set lock on file \"(?P<path>[^\"]+)\"|being used by another process", re.IGNORECASE
)
_HOLDER = re.compile(r"held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
# What DuckDB takes for something else than a file: `md:`, `s3://`.
_SERVICE = re.compile(r"\w{2,}:")


class DuckDb:
    """The database of one dbt target: as a warehouse it is opened read-only.

    `notify` is told while another process holds the file.
    """

    def __init__(
        self,
        credentials: Mapping[str, Any],
        project_dir: Path,
        threads: int = 4,
        *,
        notify: Callable[[str], None] = lambda _: None,
        lock_timeout: timedelta = timedelta(seconds=30),
        files: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        unsupported = [key for key in _UNSUPPORTED if credentials.get(key)]
        if unsupported:
            raise ConfigError(
                f"the DuckDB profile uses {', '.join(map(repr, unsupported))}, which Sentinel can't open yet"
            )
        path = str(credentials.get("path", ":memory:"))
        if path == ":memory:" or path.startswith(":memory:"):
            raise ConfigError(
                "the DuckDB profile has `path: ':memory:'`: nothing would be left for Sentinel to "
                "watch or to remember",
                hint="give the profile's target a file, such as `path: warehouse.duckdb`",
            )
        # dbt runs in the project's folder, so that is what a relative path starts from.
        # A link stays one: dbt takes the database's name from it.
        self.path = path if _SERVICE.match(path) else str((project_dir / path).absolute())
        self._credentials = credentials
        self._project_dir = project_dir
        self._threads = threads
        self._notify = notify
        self._lock_timeout = lock_timeout
        self._files = files

    @contextmanager
    def open(self) -> Iterator[Session]:
        with self.engine(read_only=True) as engine:
            yield SqlSession(engine, DIALECT, lambda driver: driver.interrupt())

    def instant(self, moment: datetime) -> str:
        text = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        return f"timestamp '{text}'"

    @contextmanager
    def engine(self, *, read_only: bool) -> Iterator[Engine]:
        """An engine for one batch. After it the file is free for other processes.

        Raises WarehouseLocked after waiting, naming the holder if DuckDB does, and WarehouseError.
        """
        engine = create_engine(
            "duckdb://",
            connect_args={
                "database": self.path,
                "read_only": read_only,
                "config": dict(self._credentials.get("config_options") or {}),
            },
            poolclass=QueuePool,
            pool_size=self._threads,
            max_overflow=0,
        )
        event.listen(engine, "connect", lambda driver, _: self._prepare(driver, read_only))
        try:
            self._wait_until_free(engine, read_only)
            yield engine
        finally:
            engine.dispose()

    def _wait_until_free(self, engine: Engine, read_only: bool) -> None:
        if read_only and "://" not in self.path and not Path(self.path).exists():
            raise WarehouseError(
                f"there is no DuckDB file {self.path}",
                hint="`dbt build` makes it, and `sentinel init` makes Sentinel's tables in it",
            )
        waiting = Retrying(
            retry=retry_if_exception_type(WarehouseLocked),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            stop=stop_after_delay(self._lock_timeout),
            before_sleep=_Said(self._notify),
            reraise=True,
        )
        waiting(self._try_to_connect, engine)

    def _try_to_connect(self, engine: Engine) -> None:
        try:
            engine.connect().close()
        except DBAPIError as error:
            words = own_words(error)
            locked = _LOCKED.search(words)
            if locked:
                file = locked["path"] or self.path
                raise WarehouseLocked(f"the DuckDB file {file} is held {_by(words)}") from None
            raise WarehouseError(f"DuckDB can't open {self.path}: {words}") from None

    def _prepare(self, driver: Any, read_only: bool) -> None:
        """What dbt-duckdb does on a new connection, less what could write."""
        credentials = self._credentials
        for extension in credentials.get("extensions") or ():
            name = extension["name"] if isinstance(extension, Mapping) else extension
            driver.load_extension(name)
        for attachment in credentials.get("attach") or ():
            driver.execute(_attach(attachment, self._project_dir, read_only=read_only))
        for key, value in (credentials.get("settings") or {}).items():
            driver.execute(f"set {key} = {_quoted(str(value))}")


def _by(words: str) -> str:
    holder = _HOLDER.search(words)
    return f"by process {holder['pid']} ({holder['program']})" if holder else "by another process"


class _Said:
    """Says what is waited for: at once, then every few seconds, not at every try."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify = notify
        self._last = -_SAY_AGAIN_S

    def __call__(self, attempt: RetryCallState) -> None:
        waited = attempt.seconds_since_start or 0.0
        if attempt.outcome and waited - self._last >= _SAY_AGAIN_S:
            self._last = waited
            self._notify(f"waiting: {attempt.outcome.exception()}")


def _attach(attachment: Mapping[str, Any], project_dir: Path, *, read_only: bool) -> str:
    path = str(attachment["path"])
    options = {**(attachment.get("options") or {})}
    kind = attachment.get("type") or options.pop("type", None)
    # A path that names a service or a special database is left alone.
    plain = kind in (None, "duckdb", "sqlite") and not _SERVICE.match(path)
    shown = str((project_dir / path).absolute()) if plain else path
    words = [f"type {kind}"] if kind else []
    asked = options.pop("read_only", False)
    if read_only or attachment.get("read_only") or asked:
        words.append("read_only")
    if attachment.get("secret"):
        words.append(f"secret {attachment['secret']}")
    words += [f"{key} {_quoted(str(value))}" for key, value in options.items()]
    alias = f" as {attachment['alias']}" if attachment.get("alias") else ""
    return f"attach if not exists {_quoted(shown)}{alias}" + (
        f" ({', '.join(words)})" if words else ""
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
