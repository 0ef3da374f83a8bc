"""The seams: what the use cases need from the world. Adapters implement these Protocols."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from sentinel.core.project import AlertSource, Compiled, Location, Selection, StoreTables


class Project(Protocol):
    """A dbt project as its manifest shows it."""

    @property
    def name(self) -> str:
        """The project's name in dbt_project.yml; it scopes rows in a shared store."""

    def alerts(self) -> Sequence[AlertSource]:
        """Every model with `config.meta.sentinel`, by unique id.

        Raises ProjectError if dbt can't parse the project.
        """

    def select(self, selection: Selection) -> frozenset[str]:
        """The unique ids of all models that dbt's own selection names.

        Raises ProjectError if dbt refuses the selection.
        """

    def compile(self, unique_ids: Iterable[str]) -> Mapping[str, Compiled]:
        """The current SQL of each model. A model that doesn't compile has an error instead.

        Raises ProjectError if dbt can't parse the project.
        """

    def tables(self) -> StoreTables:
        """The relations of Sentinel's own models. Raises ProjectError as `alerts` does."""

    def locate(self, source: AlertSource, *keys: str) -> Location:
        """Where `meta.sentinel.<keys...>` of an alert is written; the nearest line known."""
