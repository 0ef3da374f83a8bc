"""Silences: made, shown, ended."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sentinel.core.errors import UsageError
from sentinel.core.silence import Silence
from sentinel.ports import SilenceStore

_SHOWN = 8


@dataclass(frozen=True)
class SilenceRequest:
    """A silence as a person wants it; without `starts_at` it starts now."""

    alert_ids: tuple[str, ...]
    selector: str | None
    dimensions: Mapping[str, str] | None
    comment: str
    author: str
    os_user: str | None
    starts_at: datetime | None
    ends_at: datetime


def silence(store: SilenceStore, project: str, wish: SilenceRequest, now: datetime) -> Silence:
    """Make a silence. Raises UsageError if it would end before it starts, or is over already."""
    starts_at = wish.starts_at or now
    if wish.ends_at <= starts_at:
        raise UsageError("the silence would end before it starts")
    if wish.ends_at <= now:
        raise UsageError("the silence would be over already: its end lies in the past")
    made = Silence(
        silence_id=uuid.uuid4().hex,
        project=project,
        alert_ids=list(wish.alert_ids),
        dimensions=dict(wish.dimensions) if wish.dimensions else None,
        selector=wish.selector,
        comment=wish.comment,
        author=wish.author,
        os_user=wish.os_user,
        created_at=now,
        starts_at=starts_at,
        ends_at=wish.ends_at,
    )
    store.add_silence(made)
    return made


@dataclass(frozen=True)
class Ended:
    """Silences that were ended now, and those that were over already."""

    ended: tuple[Silence, ...]
    over: tuple[Silence, ...]


def unsilence(
    store: SilenceStore, words: Sequence[str], names: Mapping[str, str], by: str
) -> Ended:
    """End silences, each named by the beginning of its id or by the one alert that it is of.

    `names` are alerts' names by id. Raises UsageError if a word names none, or more than one.
    """
    now, known = store.now(), store.silences()
    going = [each for each in known if each.ended_at is None and each.ends_at > now]
    meant = {
        found.silence_id: found for word in words for found in _meant(word, going, known, names)
    }
    done = store.end_silences(meant, by)
    return Ended(
        tuple(each for key, each in meant.items() if key in done),
        tuple(each for key, each in meant.items() if key not in done),
    )


def _meant(
    word: str, going: Sequence[Silence], known: Sequence[Silence], names: Mapping[str, str]
) -> Sequence[Silence]:
    by_id = [each for each in known if len(word) >= 4 and each.silence_id.startswith(word)]
    if len(by_id) == 1:
        return by_id
    if by_id:
        raise UsageError(f"{word!r} is the beginning of several silences' ids: write more of it")
    covering = [each for each in going if word in (names.get(i) for i in each.alert_ids)]
    alone = [each for each in covering if len(each.alert_ids) == 1]
    if alone:
        return alone
    hint = "`sentinel silence --list` shows what there is"
    if covering:
        ids = ", ".join(short(each, known) for each in covering)
        raise UsageError(f"{word} is silenced together with other alerts: by {ids}", hint=hint)
    raise UsageError(f"no silence has the id {word!r} or is of an alert of that name", hint=hint)


def short(silence: Silence, known: Sequence[Silence]) -> str:
    """The first characters of a silence's id, enough to identify it."""
    length = _SHOWN
    while sum(each.silence_id[:length] == silence.silence_id[:length] for each in known) > 1:
        length += 1
    return silence.silence_id[:length]
