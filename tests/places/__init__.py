"""Places: the real warehouses that tests run against, one module each.

`place.py` says what they have in common, `servers.py` opens them; `tests/conftest.py` has the
fixtures.
"""
