"""Attacks on the promise that Sentinel only reads what it checks."""
