"""The entry point. Each command is a module of this package that defines `command`."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any

import click

from sentinel import __version__
from sentinel.cli.output import fail
from sentinel.cli.streams import guarded_streams
from sentinel.core.errors import SentinelError

# The code for a result that is not on standard output, whatever it was.
EXIT_UNWRITTEN = 6

# The commands, in the order in which help shows them, each with its line there.
COMMANDS = {
    "init": "Set up Sentinel in a dbt project.",
    "list": "List alerts with schedule, severity, owner and channels.",
    "validate": "Check definitions, channels and SQL without evaluating alerts.",
    "run": "Evaluate alerts, record the results and send notifications.",
    "deliver": "Send pending notifications.",
    "daemon": "Evaluate alerts on schedule; serve health and metrics over HTTP.",
    "healthcheck": "Check whether the daemon is alive, for containers.",
    "status": "Show alerts that are firing, pending or failing, and undelivered notifications.",
    "history": "Show past evaluations.",
    "explain": "Explain an alert's state and its notifications.",
    "silence": "Mute notifications for selected alerts.",
    "unsilence": "End silences.",
    "ack": "Acknowledge firing alerts: stops reminders and escalations.",
    "notify-test": "Send a test message to a channel.",
    "doctor": "Diagnose this installation.",
}


class Commands(click.Group):
    """A group that imports a command's module only when that command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = cmd_name.replace("-", "_")
        command: click.Command = importlib.import_module(f"sentinel.cli.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            from sentinel.core.definition_errors import suggest

            raise click.UsageError(
                f"there is no command {args[0]!r}{suggest(args[0], COMMANDS)}", ctx
            )
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # Not one of the standard streams. On it, click would exit with the code for "something
            # fires".
            raise _PipeBroken from error


class _PipeBroken(Exception):
    pass


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "SENTINEL"},
)
@click.version_option(__version__, prog_name="sentinel")
def cli() -> None:
    """Alerts as dbt models: evaluated on the warehouse, notified once, recorded in tables.

    \b
    A first alert in a dbt project:
      sentinel init                      set up the project
      sentinel run                       evaluate every alert
      sentinel run --select tag:finance  evaluate only these
      sentinel status                    show what is firing

    \b
    Exit codes of `run`:
      0  no alert fires at or above --fail-on
      1  an alert fires
      2  wrong usage, configuration or connection: nothing was evaluated
      3  an alert could not be evaluated
      4  a notification is undeliverable
      5  no alert matches the selection
      6  the result can't be written to standard output
    """


def main(args: list[str] | None = None) -> None:
    """Run a command and exit with its exit code; errors go to standard error."""
    if os.getpid() == 1:
        # The first process of a container ignores what it has no handler for.
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    with guarded_streams() as streams:
        code = _run(args)
        if error := streams.unwritten():
            fail(
                f"the result can't be written to standard output: {error.strerror}",
                "the command itself finished: its evaluations and changes are recorded",
            )
            code = EXIT_UNWRITTEN
    sys.exit(code)


def _run(args: list[str] | None) -> int:
    """Run a command and return its exit code."""
    try:
        result: Any = cli.main(args=args, prog_name="sentinel", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        fail("interrupted")
        return 130
    except click.ClickException as error:
        error.show()
        return 2
    except SentinelError as error:
        fail(error.message, error.hint)
        return error.exit_code
    except Exception as error:
        if os.environ.get("SENTINEL_DEBUG"):
            raise
        fault = error.__cause__ if isinstance(error, _PipeBroken) else error
        fail(
            f"unexpected {type(fault).__name__}: this is a bug in Sentinel",
            "run it again with SENTINEL_DEBUG=1 to see the traceback, and please report it",
        )
        return 2
    return result if isinstance(result, int) else 0
