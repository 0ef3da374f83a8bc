"""The one place where parts are wired together."""

from sentinel.bootstrap.databases import introspect
from sentinel.bootstrap.installation import Installation, ProgressReporter

__all__ = ["Installation", "ProgressReporter", "introspect"]
