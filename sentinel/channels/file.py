"""`file`: messages as JSON lines, appended to a file."""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Collection

from pydantic import Field

from sentinel.channels.contract import ChannelContext, ChannelSettings
from sentinel.core.errors import DeliveryError
from sentinel.core.routing import Traits
from sentinel.core.values import isoformat
from sentinel.ports import Message, Receipt


class FileChannel:
    """Appends one JSON object a notification; a line is written whole or not at all."""

    class Settings(ChannelSettings):
        """The keys of a channel of the type `file`."""

        path: str = Field(
            min_length=1, description="The file, relative to the dbt project; made if missing."
        )

    traits = Traits()

    @classmethod
    def traits_for(cls, keys: Collection[str]) -> Traits:
        return cls.traits

    def __init__(self, name: str, settings: Settings, around: ChannelContext) -> None:
        self.name = name
        self._path = around.project_dir / settings.path

    def send(self, message: Message) -> Receipt:
        lines = "".join(
            json.dumps(
                {
                    "message_id": message.message_id,
                    "notification_id": row.notification_id,
                    "created_at": isoformat(row.created_at),
                    **row.payload,
                },
                ensure_ascii=True,
            )
            + "\n"
            for row in message.notifications
        )
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                _append(file.fileno(), lines.encode("ascii"))
        except OSError as error:
            raise DeliveryError(f"{self._path} can't be written: {error.strerror}") from None
        return Receipt()


def _append(file: int, lines: bytes) -> None:
    """All of the lines, safe on the disk, or none of them. Raises OSError."""
    before = os.fstat(file)
    regular = stat.S_ISREG(before.st_mode)
    try:
        while lines:
            lines = lines[os.write(file, lines) :]
        if regular:  # a pipe such as /dev/stdout can't be synced
            os.fsync(file)
    except OSError:
        if regular:
            os.ftruncate(file, before.st_size)
        raise
