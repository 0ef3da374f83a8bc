"""The orchestrators run on the small dbt project that the command line is tested with."""

from __future__ import annotations

from tests.cli.conftest import acme, template

__all__ = ["acme", "template"]
