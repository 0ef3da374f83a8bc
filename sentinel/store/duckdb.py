"""The store's SQL on DuckDB."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from sentinel.store.sql import Returning
from sentinel.store.tables import Kind

_TYPES: dict[Kind, str] = {
    "text": "VARCHAR",
    "json": "VARCHAR",
    "time": "TIMESTAMP",
    "integer": "BIGINT",
    "float": "DOUBLE",
}


# A commit that fails for other reasons, such as a full disk, has an exception of the same type.
_LOST_RACE = re.compile(r"conflict|constraint violation", re.IGNORECASE)


class DuckDbDialect(Returning):
    clock = "make_timestamp(epoch_us(now()))"

    def lost_race(self, error: BaseException) -> bool:
        return type(error).__name__ == "TransactionException" and bool(
            _LOST_RACE.search(str(error))
        )

    def missing_table(self, error: BaseException) -> bool:
        return type(error).__name__ == "CatalogException"

    def expand(self, parameter: str, columns: Mapping[str, Kind]) -> str:
        shape = json.dumps([{name: _TYPES[kind] for name, kind in columns.items()}])
        shape = shape.replace(":", "\\:")  # a colon would begin a bound parameter
        return f"select unnest(from_json(cast(:{parameter} as json), '{shape}'), recursive := true)"

    def texts(self, parameter: str) -> str:
        return f"""select unnest(from_json(cast(:{parameter} as json), '["VARCHAR"]')) as item"""
