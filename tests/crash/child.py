"""`sentinel` in a process that kills itself at a point: `python -m tests.crash.child POINT ARGS...`.

SIGKILL can't be caught, so what is left behind is what a crash of the machine would leave.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from sentinel.cli.main import main


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str) -> None:
    """Die where this method begins."""
    setattr(owner, name, die)


def after(owner: Any, name: str, *, when: Callable[[Any], bool] = lambda _: True) -> None:
    """Die where this method has ended, if what it gave is of interest."""
    method = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        given = method(*args, **kwargs)
        if when(given):
            die()
        return given

    setattr(owner, name, wrapped)


def arm(point: str) -> None:
    """Set the trap for one point; `none` sets none."""
    from sentinel.app.query import AlertQuery
    from sentinel.channels.webhook import WebhookChannel
    from sentinel.dbt.project import DbtProject
    from sentinel.store.recording import Recording
    from sentinel.store.sql import SqlStore

    match point:
        case "before_query":
            before(AlertQuery, "_read")
        case "after_query":
            after(AlertQuery, "_read")
        case "in_transaction":
            after(Recording, "_write")
        case "after_commit":
            after(SqlStore, "commit")
        case "after_claim":
            after(SqlStore, "claim", when=bool)
        case "after_send":
            after(WebhookChannel, "send")
        case "before_mark":
            before(SqlStore, "mark")
        case "in_reload":
            before(DbtProject, "compile")
        case "none":
            pass
        case _:
            raise SystemExit(f"there is no point {point!r}")


if __name__ == "__main__":
    arm(sys.argv[1])
    main(sys.argv[2:])
