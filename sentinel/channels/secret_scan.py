"""Secrets of all installed channel types in alert definitions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from sentinel.channels.contract import ChannelType
from sentinel.channels.registry import channel_types
from sentinel.core.secret_scan import Keys, PatternScan
from sentinel.core.text import line


class ChannelSecretScan:
    """A `SecretScan` that knows the secrets of every installed channel type.

    Only `find` and `problems` import channel modules. It can be pickled for another process.
    """

    @cached_property
    def version(self) -> str:
        """The installed channel types, and the packages that they come from."""
        types = sorted(channel_types().items())
        return json.dumps(
            [
                [name, point.value, *([point.dist.name, point.dist.version] if point.dist else [])]
                for name, point in types
            ]
        )

    @property
    def problems(self) -> Sequence[str]:
        return self._imported[1]

    def find(self, block: Mapping[str, Any]) -> Iterable[Keys]:
        return self._imported[0].find(block)

    @cached_property
    def _imported(self) -> tuple[PatternScan, Sequence[str]]:
        patterns, problems = [], []
        for name, point in sorted(channel_types().items()):
            try:
                channel_type: ChannelType = point.load()
                PatternScan([channel_type.secret_patterns])
                patterns.append(channel_type.secret_patterns)
            except Exception as error:  # noqa: BLE001 - a broken plugin must not stop the others
                problems.append(
                    f"the channel type {name!r} can't be loaded ({type(error).__name__}: "
                    f"{line(error)}): its secrets aren't recognised in alert definitions"
                )
        return PatternScan(patterns), problems
