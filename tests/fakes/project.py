"""A project in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sentinel.core.project import AlertSource, Compiled, Location, Selection, StoreTables


@dataclass
class FakeProject:
    """A project whose alerts compile to `select <name>`, unless `compiled` says otherwise."""

    sources: Sequence[AlertSource] = ()
    compiled: dict[str, Compiled] = field(default_factory=dict)
    chosen: frozenset[str] | None = None
    lines: Mapping[str, int] = field(default_factory=dict)
    hidden: Mapping[str, Location] = field(default_factory=dict)
    name: str = "shop"

    def alerts(self) -> Sequence[AlertSource]:
        return self.sources

    def select(self, selection: Selection) -> frozenset[str]:
        if self.chosen is not None:
            return self.chosen
        return frozenset(each.unique_id for each in self.sources)

    def compile(self, unique_ids: Iterable[str]) -> Mapping[str, Compiled]:
        return {i: self.compiled.get(i, Compiled(i, "select " + i[11:])) for i in unique_ids}

    def tables(self) -> StoreTables:
        return StoreTables()

    def locate(self, source: AlertSource, *keys: str) -> Location:
        return Location(source.path, self.lines.get(keys[0] if keys else ""))

    def hidden_block(self, source: AlertSource) -> Location | None:
        return self.hidden.get(source.name)
