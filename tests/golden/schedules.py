"""Schedules: next, previous and missed slots of many expressions, and those that are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sentinel.core.schedule import Cron

EXPRESSIONS = [
    "* * * * *", "*/2 * * * *", "*/5 * * * *", "*/7 * * * *", "5 * * * *", "0,30 * * * *",
    "10-20 * * * *", "10-20/3 * * * *", "0 8 * * *", "30 2 * * *", "30 1 * * *", "0 0 1 * *",
    "0 0 31 * *", "0 0 29 2 *", "0 0 * * 0", "0 0 * * 7", "0 0 * * mon-fri", "0 9 1-7 * 1",
    "0 9 */2 * 1", "0 9 1 * */2", "15 10 * jan,jul *", "0 */6 * * *", "0 22-23 * * *",
    "59 23 31 12 *", "0 12 * * sun", "5-5 * * * *", "0 0 15 * fri", "0 3 * 3 0", "0 3 * 10 sun",
    "*/15 8-18 * * 1-5", "hourly", "daily", "weekly", "monthly",
]  # fmt: skip
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]
MOMENTS = [
    datetime(2026, 1, 31, 23, 59, 30, tzinfo=UTC),
    datetime(2026, 3, 29, 0, 30, tzinfo=UTC),
    datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
    datetime(2026, 11, 1, 5, 45, tzinfo=UTC),
    datetime(2028, 2, 28, 12, 0, tzinfo=UTC),
]
REFUSED = [
    "", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *",
    "* * * 13 *", "* * * * 8", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "*/0 * * * *", "*,5 * * * *",
    "5,* * * * *", "20-10 * * * *", "a * * * *", "@hourly", "@reboot", "1.5 * * * *", "-1 * * * *",
    "5/10 * * * *", "H * * * *", "? * * * *", "0 0 W * *", "0 0 * * mon#", "yearly",
]  # fmt: skip


def slots() -> dict[str, Any]:
    """Slots by expression and zone: next and previous ones of some moments, and a year's count."""
    return {
        f"{text} {zone}": {
            "next": [_text(cron.next_after(moment)) for moment in MOMENTS],
            "previous": [_text(cron.latest_until(moment)) for moment in MOMENTS],
            "year": cron.count_between(MOMENTS[0], MOMENTS[0] + timedelta(days=365)),
        }
        for text in EXPRESSIONS
        for zone in ZONES
        for cron in (Cron.parse(text, zone),)
    }


def refusals() -> dict[str, str]:
    """The error of each expression that is no schedule."""
    errors = {}
    for text in REFUSED:
        try:
            Cron.parse(text, "UTC")
        except ValueError as error:
            errors[text] = str(error)
        else:
            errors[text] = "accepted"
    return errors


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
