"""`sentinel daemon`: everything on schedule, until it is asked to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType
from typing import Any

import click

from sentinel.cli.options import (
    DbtCommand,
    dbt_options,
    read_dbt_options,
    read_selection,
    selection_options,
)
from sentinel.cli.output import Output


@click.command("daemon", cls=DbtCommand)
@selection_options
@click.option("--host", help="The address to listen on; unset, `web.host` of sentinel.yml.")
@click.option("--port", type=click.IntRange(0, 65_535), help="The port; unset, `web.port`.")
@dbt_options
def command(**values: Any) -> int:
    """Evaluate alerts on schedule, tell people, and show health and metrics over HTTP.

    Changed files of the project are picked up by themselves; SIGHUP reads them at once. SIGTERM
    finishes what is under way, a second one doesn't wait.

    \b
    Examples:
      sentinel daemon
      sentinel daemon --select tag:finance --port 9000
      sentinel daemon --host 0.0.0.0 --log-format json
    """
    from sentinel.bootstrap.daemon import DaemonSetup
    from sentinel.web.metrics import Metrics
    from sentinel.web.server import Shown, WebServer, application, on_loopback

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
    route_logging(log)
    setup = DaemonSetup(read_dbt_options(values), output.voice(), read_selection(values))
    late_scrub.scrub = setup.scrub
    if context := click.get_current_context(silent=True):
        context.obj = setup
    metrics = Metrics()
    web = setup.installation.settings.web
    host = values["host"] or web.host
    port = web.port if values["port"] is None else values["port"]
    token = web.token.get_secret_value() if web.token else None
    local = on_loopback(host)
    daemon = setup.daemon(metrics, log, lambda: daemon.reload())
    shown = Shown(daemon.condition, lambda: daemon.loaded.store if daemon.loaded else None, metrics)
    server = WebServer(application(shown, token, local=local), host, port)
    bound = server.start()
    log.info("listening", host=host, port=bound)
    if token is None and not local:
        log.warning("only health is shown", detail="`web.token` is not set", host=host)
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
    setup.close()
    sys.stdout.flush()
    sys.stderr.flush()
    # A query that is still running would hold up the end; its slot is due again.
    os._exit(0)


class _Forward(logging.Handler):
    """What libraries log, as lines like all others."""

    def __init__(self, log: Any) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        say = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        say("library", logger=record.name, detail=record.getMessage(), exc_info=record.exc_info)


def route_logging(log: Any) -> None:
    """Let the logging of libraries come out here too, from warnings on."""
    logging.getLogger().addHandler(_Forward(log))
    # That a job still runs when it is due again is no news: a database may be held for long.
    logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)


class LateScrub:
    """Takes secrets out as soon as they are known: the log is there before they are."""

    def __init__(self) -> None:
        self.scrub: Any = str

    def __call__(self, text: str) -> str:
        scrubbed: str = self.scrub(text)
        return scrubbed
