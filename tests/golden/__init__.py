"""Recorded behaviour: scripted stories whose every row is compared with a file.

The stories pin what evaluation, time-based planning, acknowledgements, silences, removals, project
health and delivery write, so that a change of structure can be told from a change of behaviour. Write
the files anew (`python -m tests.golden.record`) only for a change of behaviour that is wanted, and
read the difference before you commit it.
"""
