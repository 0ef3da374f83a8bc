"""The project of the command line's tests, for attacks by real commands."""

from tests.cli.conftest import acme, new_project, template

__all__ = ["acme", "new_project", "template"]
