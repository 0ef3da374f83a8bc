"""What dbt's own code makes of profiles; a script, for dbt keeps global state.

Reads cases as JSON from standard input: a working directory, an environment, and arguments of
`dbt parse`. Writes an answer for each: the name, target, type, threads and other keys of the
profile (as `repr`, which tells types apart), or the error.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any
from unittest.mock import patch


def load(cwd: str, env: dict[str, str], args: list[str]) -> dict[str, Any]:
    from dbt.adapters.duckdb.credentials import DuckDBCredentials
    from dbt.cli.flags import Flags, args_to_context
    from dbt.config.profile import Profile
    from dbt.config.runtime import load_profile
    from dbt.flags import set_flags
    from dbt_common.context import set_invocation_context
    from dbt_common.exceptions import DbtBaseException

    rendered: dict[str, Any] = {}

    def keep(profile: dict[str, Any], *_: str) -> DuckDBCredentials:
        """The adapters of the other types needn't be installed: their rules aren't compared."""
        rendered.update(type=profile.pop("type"), keys=repr(profile))
        return DuckDBCredentials(database="shop", schema="main", path=":memory:")

    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    set_invocation_context(env)
    try:
        flags: Any = Flags(args_to_context(["parse", *args]))
        set_flags(flags)  # type: ignore[no-untyped-call]  # dbt's own
        with patch.object(Profile, "_credentials_from_profile", staticmethod(keep)):
            profile = load_profile(
                flags.PROJECT_DIR, flags.VARS, flags.PROFILE, flags.TARGET, flags.THREADS
            )
    except (DbtBaseException, KeyError) as error:
        return {"error": str(error)}
    if "Undefined" in rendered["keys"]:
        return {"error": "a value that no adapter takes"}
    found = {"name": profile.profile_name, "target": profile.target_name}
    return found | {"threads": profile.threads, **rendered}


if __name__ == "__main__":
    said = sys.stdout
    sys.stdout = sys.stderr  # dbt may have something to say
    json.dump([load(**case) for case in json.load(sys.stdin)], said)
