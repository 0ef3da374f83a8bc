"""Attacks on Sentinel: one module or package for each heading of docs/explanation/security.md."""
