"""`sentinel init`: set up Sentinel in a dbt project."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from sentinel.cli.options import DbtCommand, dbt_options, open_installation, read_output
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.rendering import parse_vars
from sentinel.dbt.setup.scaffold import scaffold

_STYLES = {"created": "green", "updated": "yellow", "outdated": "bold yellow"}


@click.command("init", cls=DbtCommand)
@click.option(
    "--upgrade", is_flag=True, help="Upgrade the dbt package to this version of Sentinel."
)
@click.option(
    "--skip-tables", is_flag=True, help="Don't create Sentinel's tables on the warehouse."
)
@dbt_options
def command(**values: Any) -> int:
    """Set up Sentinel in a dbt project; running it again changes nothing.

    Adds the dbt package, its settings in dbt_project.yml, a sentinel.yml and an example alert, and
    runs dbt to create Sentinel's tables.

    \b
    Examples:
      sentinel init
      sentinel init --project-dir shop --target dev
      sentinel init --upgrade
    """
    output = read_output(values)
    installation = open_installation(values, output)
    options: DbtOptions = installation.options
    if not values["skip_tables"]:
        # Report problems that prevent dbt from creating the tables before writing anything.
        _ = installation.profile
    done = scaffold(
        options.project_dir, upgrade=values["upgrade"], cli_vars=parse_vars(options.vars)
    )
    for change in done.changes:
        style = _STYLES.get(change.action, "dim")
        detail = f"  {change.detail}" if change.detail else ""
        output.line(Text.assemble((f"{change.action:<10}", style), change.path, (detail, "dim")))
    if done.uninstalled:
        output.line()
        output.line(f"dbt still has to install {', '.join(done.uninstalled)}. Next:")
        output.line("  dbt deps")
        output.line("  sentinel init")
        return 0
    if not values["skip_tables"]:
        with output.at_work():
            installation.databases.make_tables()
            installation.store.check(writing=True)
        output.line(Text.assemble(("ready     ", "green"), "Sentinel's tables"))
    output.line()
    output.line("Next: `sentinel run`, then write an alert next to your models.")
    return 0
