"""One module a warehouse: a dbt profile becomes a read-only SQLAlchemy engine."""
