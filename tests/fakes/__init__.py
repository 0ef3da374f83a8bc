"""Fakes at the ports, and the small values that tests are made of."""

from tests.fakes.channel import FakeChannel
from tests.fakes.clock import NOW, Clock
from tests.fakes.project import FakeProject
from tests.fakes.store import MemoryStore, Tables, mark
from tests.fakes.values import alerts_of, message, notification, payload, silence, source, state
from tests.fakes.warehouse import Answer, FakeWarehouse, counted, refused, status

__all__ = [
    "NOW",
    "Answer",
    "Clock",
    "FakeChannel",
    "FakeProject",
    "FakeWarehouse",
    "MemoryStore",
    "Tables",
    "alerts_of",
    "counted",
    "mark",
    "message",
    "notification",
    "payload",
    "refused",
    "silence",
    "source",
    "state",
    "status",
]
