"""`sentinel daemon`: evaluate alerts on schedule until it is stopped."""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType
from typing import Any

import click

from sentinel.app.problems import Log, Throttle
from sentinel.app.threads import Threads
from sentinel.cli.options import (
    DbtCommand,
    dbt_options,
    read_dbt_options,
    read_selection,
    selection_options,
)
from sentinel.cli.output import Output
from sentinel.cli.streams import queued_errors
from sentinel.core.errors import SentinelError
from sentinel.core.hosts import normal_host

# A random token of this many letters and digits can't be guessed.
_SHORT_TOKEN = 16
_LOG_S = 2.0
_WEB_S = 10.0


@click.command("daemon", cls=DbtCommand)
@selection_options
@click.option("--host", help="Address to listen on (default: `web.host` in sentinel.yml).")
@click.option(
    "--port", type=click.IntRange(0, 65_535), help="Port to listen on (default: `web.port`)."
)
@dbt_options
def command(**values: Any) -> int:
    """Evaluate alerts on schedule, send notifications and serve health and metrics over HTTP.

    The daemon reloads the project when its files change; SIGHUP reloads it at once. On SIGTERM it
    finishes running evaluations and deliveries; a second SIGTERM stops it immediately.

    \b
    Examples:
      sentinel daemon
      sentinel daemon --select tag:finance --port 9000
      sentinel daemon --host 0.0.0.0 --log-format json
    """
    late_scrub = LateScrub()
    output = Output(
        json=False,
        json_logs=values["log_format"] == "json",
        quiet=values["quiet"],
        terminal=sys.stderr.isatty(),
        scrub=late_scrub,
        service=True,
    )
    log = output.log
    threads = Threads(log)

    def unreachable(number: int) -> bytes:
        return f"{log.entry('warning', 'log entries lost', number=number)}\n".encode()

    with queued_errors(unreachable, lambda work: threads.start("log", work), _LOG_S):
        try:
            _serve(values, output, threads, late_scrub)
        except (SentinelError, click.ClickException):
            raise
        except Exception as error:
            words = f"unexpected {type(error).__name__}: this is a bug in Sentinel"
            log.error("fault", error=words, exc_info=error)
            code = 2
        else:
            code = 0
    # A query that is still running would delay the exit; its slot is due again.
    os._exit(code)


def _serve(values: dict[str, Any], output: Output, threads: Threads, late_scrub: LateScrub) -> None:
    from sentinel.bootstrap.daemon import DaemonSetup
    from sentinel.web.access import Rules
    from sentinel.web.metrics import Metrics
    from sentinel.web.server import Shown, WebServer, application, on_loopback

    log = output.log
    route_logging(log)
    setup = DaemonSetup(
        read_dbt_options(values), output.progress_reporter(), read_selection(values)
    )
    late_scrub.scrub = setup.scrub
    if context := click.get_current_context(silent=True):
        context.obj = setup.withheld
    metrics = Metrics()
    web = setup.installation.settings.web
    host = values["host"] or web.host
    port = web.port if values["port"] is None else values["port"]
    token = web.token.get_secret_value() if web.token else None
    local = on_loopback(host)
    named = normal_host(host)
    rules = Rules(token, local, (*web.allowed_hosts, *([named] if named else [])))
    throttle = Throttle()

    def refused(reason: str) -> None:
        left_out = throttle.admit("peers")
        if left_out is not None:
            log.warning("peer refused", reason=reason, left_out=left_out or None)

    daemon = setup.daemon(metrics, log, lambda: daemon.reload(), threads)
    shown = Shown(daemon.status, lambda: daemon.loaded.store if daemon.loaded else None, metrics)
    server = WebServer(lambda: application(shown, rules, refused), host, port, refused)
    bound = server.listen()
    threads.start("web", server.serve)
    log.info("listening", host=host, port=bound)
    if token is None and not local:
        log.warning("serving health only", detail="`web.token` is not set", host=host)
    if token is not None and len(token) < _SHORT_TOKEN:
        detail = f"`web.token` has fewer than {_SHORT_TOKEN} characters: it can be guessed"
        log.warning("short token", detail=detail)
    stopping = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            os._exit(128 + number)
        stopping = True
        daemon.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, lambda *_: daemon.reload())
    daemon.load_first()
    daemon.run()
    server.stop()
    threads.join("web", _WEB_S)
    setup.close()


class _Forward(logging.Handler):
    """The logging of libraries, as entries like all others: a few a minute of each."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._throttle = Throttle()

    def emit(self, record: logging.LogRecord) -> None:
        left_out = self._throttle.admit(record.name)
        if left_out is None:
            return
        try:
            detail = record.getMessage()
        except Exception:  # noqa: BLE001 - arguments that don't fit: the library's fault
            detail = str(record.msg)
        say = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        say(
            "library",
            logger=record.name,
            detail=detail,
            left_out=left_out or None,
            exc_info=record.exc_info,
        )


def route_logging(log: Log) -> None:
    """Let the logging of libraries come out here too, from warnings on."""
    logging.getLogger().addHandler(_Forward(log))
    # That a job still runs when it is due again is no news: a database may be held for long.
    logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)
    # Its warnings are about requests that aren't HTTP: any peer could fill the log with them.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class LateScrub:
    """Takes secrets out as soon as they are known: the log is there before they are."""

    def __init__(self) -> None:
        self.scrub: Any = str

    def __call__(self, text: str) -> str:
        scrubbed: str = self.scrub(text)
        return scrubbed
