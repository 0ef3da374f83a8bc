"""`sentinel` whose schedules come every few seconds: `python -m tests.daemon.child SECONDS ARGS...`.

Everything is as in production but for one thing: each schedule's slots are so many seconds apart.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

from sentinel.cli.main import main
from sentinel.core.schedule import Cron


def hurry(seconds: float) -> None:
    pace = timedelta(seconds=seconds)
    epoch = datetime(2026, 1, 1, tzinfo=UTC)

    def latest_until(_: Cron, moment: datetime) -> datetime:
        return epoch + pace * ((moment - epoch) // pace)

    def next_after(cron: Cron, moment: datetime) -> datetime:
        return latest_until(cron, moment) + pace

    def count_between(cron: Cron, after: datetime, before: datetime) -> int:
        return max(0, -((next_after(cron, after) - before) // pace))

    for each in (latest_until, next_after, count_between):
        setattr(Cron, each.__name__, each)


if __name__ == "__main__":
    hurry(float(sys.argv[1]))
    main(sys.argv[2:])
