"""`file`: messages as JSON lines, appended to a file."""

from __future__ import annotations

import json
import os
from datetime import timedelta

from pydantic import Field

from sentinel import files
from sentinel.channels.contract import BaseChannel, ChannelContext, ChannelSettings
from sentinel.core.errors import DeliveryError
from sentinel.core.values import isoformat
from sentinel.ports import Message, Receipt

# How long another process may write to the file before the message is sent later.
_PATIENCE = timedelta(seconds=5)
# This process's own output, as containers name it; it is open already.
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}


class FileChannel(BaseChannel):
    """Appends one JSON object a notification; a line is written whole or not at all."""

    class Settings(ChannelSettings):
        """The keys of a channel of the type `file`."""

        path: str = Field(
            min_length=1,
            description="The file, relative to the dbt project; made if missing, for its user alone.",
        )

    def __init__(self, name: str, settings: Settings, around: ChannelContext) -> None:
        super().__init__(name)
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
        content = lines.encode("ascii")
        try:
            if (stream := _STREAMS.get(str(self._path))) is not None:
                _print(stream, content)
            else:
                files.make_folder(self._path.parent)
                files.append(self._path, content, patience=_PATIENCE)
        except OSError as error:
            raise DeliveryError(f"{self._path} can't be written: {error.strerror}") from None
        return Receipt()


def _print(stream: int, content: bytes) -> None:
    while content:
        content = content[os.write(stream, content) :]
