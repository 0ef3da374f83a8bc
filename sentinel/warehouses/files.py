"""Databases that are files of this machine: who else may change them."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from sentinel.ports import Rights


def rights_on(files: Iterable[Path]) -> Rights:
    """What every user of this machine may do to these files, and how to end it."""
    found: list[str] = []
    remedy: list[str] = []
    for file in files:
        for path, text in ((file, "can change"), (file.parent, "can replace files in")):
            if not path.exists():
                continue
            mode = path.stat().st_mode
            # In a folder such as /tmp nobody replaces the files of others.
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                found.append(f"every user of this machine {text} {path}")
                remedy.append(f"chmod o-w '{path}'")
    return Rights(tuple(dict.fromkeys(found)), tuple(dict.fromkeys(remedy)))
