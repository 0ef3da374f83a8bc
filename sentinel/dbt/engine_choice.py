"""Which engine: dbt inside this process where its Python is known, else its command line."""

from __future__ import annotations

import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sentinel.core.errors import ConfigError
from sentinel.dbt.engine import Engine, Invocation

_PYTHON_ENGINE = (1, 9), (2, 0)


def python_engine_works() -> bool:
    """Whether the dbt in this environment is one whose Python API is known."""
    try:
        found = tuple(int(n) for n in re.findall(r"\d+", version("dbt-core"))[:2])
    except PackageNotFoundError:
        return False
    return _PYTHON_ENGINE[0] <= found < _PYTHON_ENGINE[1]


def find_dbt(path: str | None = None) -> str:
    """The dbt command: next to this Python, otherwise on PATH. Raises ConfigError."""
    beside = Path(sys.executable).parent / "dbt"
    found = shutil.which(str(beside)) or shutil.which("dbt", path=path)
    if found is None:
        raise ConfigError(
            "there is no dbt command", hint="install dbt: pip install dbt-core and an adapter"
        )
    return found


def make_engine(invocation: Invocation) -> Engine:
    """The engine the options ask for; `auto` is the fast one where it works."""
    choice = invocation.options.engine
    if choice == "python" or (choice == "auto" and python_engine_works()):
        try:
            from sentinel.dbt.shim import PythonEngine

            return PythonEngine(invocation)
        except ImportError as error:
            if choice == "python":
                raise ConfigError(
                    f"this dbt can't be used from Python: {error}", hint="use the command engine"
                ) from error
    from sentinel.dbt.command import CommandEngine

    return CommandEngine(invocation, find_dbt())
