"""Alerts as dbt models: evaluated on the warehouse, notified once, recorded in dbt-managed tables."""

__version__ = "0.1.0"
