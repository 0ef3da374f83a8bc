"""`sentinel healthcheck`: check the daemon on this machine, for containers and supervisors."""

from __future__ import annotations

import http.client
import json
from typing import Any

import click

from sentinel.cli.options import dbt_options, read_dbt_options
from sentinel.core.text import line

_TIMEOUT_S = 5.0
_MOST_BYTES = 64 << 10


@click.command("healthcheck")
@click.option("--ready", is_flag=True, help="Check whether it is ready, not just alive.")
@click.option(
    "--host",
    envvar=["SENTINEL_HEALTHCHECK_HOST", "SENTINEL_DAEMON_HOST"],
    help="The daemon's address (default: `web.host` in sentinel.yml).",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    envvar=["SENTINEL_HEALTHCHECK_PORT", "SENTINEL_DAEMON_PORT"],
    help="The daemon's port (default: `web.port`).",
)
@dbt_options
def command(**values: Any) -> int:
    """Check whether the daemon on this machine is alive: exits with 0 if it is, with 1 if not.

    \b
    Examples:
      sentinel healthcheck
      sentinel healthcheck --ready --port 9000
    """
    host, port = values["host"], values["port"]
    if host is None or port is None:
        from sentinel.config.settings import load_settings

        web = load_settings(read_dbt_options(values).project_dir).web
        host, port = host or web.host, port or web.port
    # What listens everywhere is asked here.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only
    path = "/readyz" if values["ready"] else "/healthz"
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said = json.loads(answer.read(_MOST_BYTES) or b"{}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        click.echo(f"no answer from {host}:{port}: {line(error)}", err=True)
        return 1
    finally:
        connection.close()
    valid = answer.status == http.client.OK
    word = ("ready" if values["ready"] else "alive") if valid else "unhealthy"
    # Any process with the port may have sent it.
    given = said.get("problems") if isinstance(said, dict) else None
    problems = ", ".join(map(line, given)) if isinstance(given, list) else ""
    click.echo(f"{word}: {problems}" if problems else word)
    return 0 if valid else 1
