"""Alerts as dbt models: run on the warehouse, told once, recorded in tables that dbt manages."""

__version__ = "0.1.0"
