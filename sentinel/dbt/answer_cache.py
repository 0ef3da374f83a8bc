"""dbt's answers between commands: which are current, judged by the project's stamp."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from sentinel.core.errors import ConfigError
from sentinel.core.secret_scan import SecretScan
from sentinel.dbt.answers import Kept
from sentinel.dbt.files import ProjectFile, private_dir
from sentinel.dbt.project_files import ProjectFiles
from sentinel.dbt.stamp import Scope, Stamp, StampInputs, stamp_key, take_stamp


class AnswerCache:
    """The answers of the artifacts folder, and the stamps that they are kept under.

    Where they can't be kept (a full disk, a folder that can't be written), the command works all the
    same; `warn` gets one message that the next one will be slow.
    """

    def __init__(
        self,
        project_files: ProjectFiles,
        warn: Callable[[str], None],
        secret_scan: SecretScan,
    ) -> None:
        self._files = project_files
        self._secret_scan = secret_scan
        self._warn = warn
        self._warned = False
        self._kept: Kept | None = None
        self._process_key = secrets.token_bytes(32)

    def load(self) -> Kept:
        """The answers of the last command, read once."""
        if self._kept is None:
            folder = private_dir(self._files.artifacts_dir(self._files.project()))
            self._kept = Kept(folder / "answers.json").load()
        return self._kept

    def save(self) -> None:
        if self._kept is not None:
            try:
                self._kept.save()
            except ConfigError as error:
                self._warn_once(error)

    def stamp(self, scope: Scope, project: ProjectFile, last: Stamp | None) -> Stamp:
        """The stamp of the project as it is now. Raises ConfigError."""
        folder = private_dir(self._files.artifacts_dir(project))
        try:
            key = stamp_key(folder)
        except ConfigError as error:
            self._warn_once(error)
            key = self._process_key
        inputs = StampInputs(
            options=self._files.options,
            profiles_dir=self._files.profiles_dir,
            target_dir=folder.parent,
            adapter=self._files.profile_of(project).type,
            engine=self._files.options.engine,
            env=self._files.env,
            key=key,
            secret_scan=self._secret_scan.version,
        )
        return take_stamp(scope, project, self._files.packages(project), inputs, last)

    def _warn_once(self, error: ConfigError) -> None:
        if not self._warned:
            self._warned = True
            self._warn(f"{error.message}; dbt parses the project again for the next command")
