"""A warehouse of any kind that keeps its own tables, and batches of alerts on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from sentinel.app.batch import BatchOptions, EvaluatedBatch
from sentinel.app.evaluate import Evaluation
from sentinel.core.evaluation import EvaluationResult
from sentinel.core.project import Compiled
from sentinel.ports import Store
from sentinel.warehouses.contract import Database, WarehouseContext
from tests.fakes import FakeProject, alerts_of, source
from tests.places.place import Place
from tests.store import made

# The SQL of an alert, and its `meta.sentinel`.
Definition = tuple[str, Mapping[str, Any]]


def plugin(group: str, name: str) -> Any:
    """What an entry point of Sentinel names."""
    (point,) = entry_points(group=f"sentinel.{group}", name=name)
    return point.load()


def opened(kind: str, output: Mapping[str, Any], folder: Path, threads: int = 2) -> Database:
    """The warehouse of a dbt profile's output."""
    database: Database = plugin("warehouses", kind)(output, WarehouseContext(folder, threads))
    return database


def store_of(kind: str, output: Mapping[str, Any], database: Database) -> Store:
    """The tables in that warehouse."""
    quote = "`" if kind == "bigquery" else '"'
    columns = made.declared_columns(kind)
    if kind == "sqlite":
        relations = {model: f'main."{model}"' for model in columns}
    else:
        name = {
            "duckdb": Path(str(output.get("path"))).stem,
            "postgres": output.get("dbname"),
            "bigquery": output.get("project"),
        }[kind]
        schema = str(output.get("dataset") or output["schema"])
        relations = made.relations_of(str(name), columns, schema, quote)
    return made.open_store(database, relations, dialect=plugin("stores", kind)())


def make_tables(place: Place) -> None:
    where = f"{place.output['project']}.{place.schema}" if place.name == "bigquery" else None
    for statement in made.create_statements(place.name, place=where):
        place.execute(statement)


@dataclass
class Shop:
    """Alerts on one warehouse, recorded in the same."""

    kind: str
    database: Database
    store: Store

    def evaluate(
        self, alerts: Mapping[str, Definition], *, dry_run: bool = False, threads: int = 2
    ) -> EvaluatedBatch:
        sources = [source(name, block) for name, (_, block) in alerts.items()]
        compiled = {
            each.unique_id: Compiled(each.unique_id, alerts[each.name][0]) for each in sources
        }
        evaluation = Evaluation(FakeProject(sources, compiled), self.database, self.store)
        return evaluation(
            alerts_of(*sources, channels=("one", "two")), BatchOptions(threads, dry_run=dry_run)
        )

    def readings(
        self, alerts: Mapping[str, Definition], **options: Any
    ) -> dict[str, EvaluationResult]:
        evaluated = self.evaluate(alerts, **options)
        return {each.alert.name: each.result for each in evaluated.evaluations}


def shop_on(place: Place, folder: Path) -> Shop:
    """The tables are made."""
    make_tables(place)
    database = opened(place.name, place.output, folder)
    return Shop(place.name, database, store_of(place.name, place.output, database))
