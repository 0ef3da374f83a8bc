"""Attacks on Sentinel's own tables: clones and copies, settings and macros of the dbt project."""
