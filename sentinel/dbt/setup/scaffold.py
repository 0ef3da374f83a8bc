"""What `sentinel init` does to a dbt project.

Every change is worked out before the first file is touched, and each file is replaced in one step.
Run again, it finds everything in place and writes nothing. dbt is neither imported nor run.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from sentinel import files
from sentinel.core.errors import ConfigError, ProjectError
from sentinel.dbt.files import ProjectFile, load_yaml, read_project
from sentinel.dbt.options import PROJECT_FILE
from sentinel.dbt.rendering import Renderer
from sentinel.dbt.setup import packages_file, vendored, yaml_edit

Action = Literal["created", "updated", "unchanged", "outdated"]

_FOLDER_NAMES = ("dbt_sentinel", "sentinel_package", "vendor/dbt_sentinel")
_CONFIG_FILE = "sentinel.yml"
_EXAMPLE = "example_alert.sql"

_TABLES: Mapping[str, Any] = {"materialized": "sentinel_table"}
_VIEWS: Mapping[str, Any] = {"materialized": "sentinel_view"}
_SETTINGS: Mapping[str, Any] = {"enabled": True, "tables": _TABLES, "views": _VIEWS}
_MODELS_COMMENT = (
    "Sentinel keeps its rows in these tables; with another materialization dbt would empty them."
)

_SENTINEL_YML = """\
# The channels that Sentinel notifies. Alerts are defined in your dbt models, under
# `meta: {sentinel: ...}`; the folder `alerts` there has an example.

# What holds for every alert that doesn't say otherwise.
defaults:
  channels: [console]

channels:
  # Prints to the terminal that runs Sentinel.
  console:
    type: console

  # Appends a line of JSON per message to a file.
  # log:
  #   type: file
  #   path: logs/sentinel.jsonl

  # Posts JSON to any address. Keep secrets out of this file: take them from the environment.
  # on_call:
  #   type: webhook
  #   url: {env: SENTINEL_WEBHOOK_URL}
"""

_EXAMPLE_ALERT = """\
-- An alert is a model with `meta.sentinel` in its config. This one is OK on any
-- project; try it:
--
-- sentinel run --select example_alert
--
-- Put 5 in the place of 0 and run it again to see it fire. Then delete this file, and
-- write your own alerts over your models. With a schedule beside the severity, such as
-- "0 8 * * *", an alert is evaluated on schedule; without one it runs manually only.
{{
    config(
        meta={
            "sentinel": {
                "description": "More failed loads than the threshold allows.",
                "severity": "warning",
            }
        }
    )
}}

with
    -- Use `sentinel.as_of()` for "now": an evaluation refers to the time it was due.
    measured as (select 0 as failed_loads, {{ sentinel.as_of() }} as measured_at)
select
    case when failed_loads > 3 then 'ALERT' else 'OK' end as status,
    failed_loads as actual_value,
    3 as threshold,
    measured_at
from measured
"""


@dataclass(frozen=True)
class Change:
    """One thing looked at. `path` is relative to the project; `outdated` means: left as it is."""

    path: str
    action: Action
    detail: str = ""


@dataclass(frozen=True)
class Scaffolded:
    """What was done. `uninstalled` are packages of the project that `dbt deps` has yet to fetch."""

    changes: tuple[Change, ...]
    uninstalled: tuple[str, ...] = ()


def scaffold(
    project_dir: Path,
    *,
    upgrade: bool = False,
    env: Mapping[str, str] | None = None,
    cli_vars: Mapping[str, Any] | None = None,
) -> Scaffolded:
    """Makes a dbt project ready for Sentinel. `upgrade` renews an older copy of the dbt package.

    Raises ConfigError or ProjectError, before anything is written, if the project can't be read
    or holds something of Sentinel's names that isn't Sentinel's.
    """
    root = project_dir.resolve()
    variables = os.environ if env is None else env

    def renderer(_profile: str | None) -> Renderer:
        return Renderer(variables, cli_vars or {})

    project = read_project(root, renderer)
    if project.name == vendored.PACKAGE:
        raise ProjectError(
            f"{PROJECT_FILE}: the project is named `{vendored.PACKAGE}`, as is Sentinel's package",
            hint="dbt needs a different name for each; rename the project",
        )
    plan = _Plan(root)
    packages = packages_file.read(root, renderer(None))
    folder = _package_folder(project, packages)
    if folder is None:
        plan.note(packages.path.name, "unchanged", "names Sentinel's package already")
    else:
        _vendor(plan, folder, upgrade)
        _declare(plan, packages, folder)
        _install(plan, project, folder)
    _settings(plan, project)
    _sentinel_yml(plan)
    _example(plan, project)
    plan.apply()
    return Scaffolded(tuple(plan.changes), packages_file.uninstalled(project, packages, folder))


@dataclass
class _Plan:
    """Everything to be written, and the report of it."""

    root: Path
    changes: list[Change] = field(default_factory=list)
    writes: dict[Path, bytes] = field(default_factory=dict)
    removals: list[Path] = field(default_factory=list)
    steps: list[Callable[[], None]] = field(default_factory=list)

    def note(self, path: str, action: Action, detail: str = "") -> None:
        self.changes.append(Change(path, action, detail))

    def write(self, name: str, text: str, detail: str) -> None:
        """A file of the project gets this text; reported by what stands there now."""
        path = self.root / name
        content = text.encode()
        if not path.exists():
            self.note(name, "created", detail)
        elif files.read(path) == content:
            self.note(name, "unchanged")
            return
        else:
            self.note(name, "updated", detail)
        self.writes[path] = content

    def apply(self) -> None:
        try:
            for path, content in self.writes.items():
                _replace(path, content)
            for path in self.removals:
                files.remove(path)
            for step in self.steps:
                step()
        except OSError as error:
            raise ProjectError(
                f"can't read or write {error.filename or self.root}: {error.strerror}",
                hint="fix it and run `sentinel init` again; it continues where it stopped",
            ) from error


def _package_folder(project: ProjectFile, packages: packages_file.Packages) -> str | None:
    """Where the project keeps its copy; None if it gets the package from elsewhere by path."""
    for entry in packages.entries:
        if entry.kind == "local":
            place = (project.root / entry.source).resolve()
            if vendored.kept(place) is not None:
                inside = place.is_relative_to(project.root)
                return entry.source if inside and (place / vendored.RECORD).exists() else None
            if vendored.package_name(place) != vendored.PACKAGE:
                continue
        elif entry.name not in (vendored.PACKAGE, "dbt_sentinel"):
            continue
        raise ConfigError(
            f"{packages.path.name}:{entry.line}: `{entry.source}` is a package named"
            f" `{vendored.PACKAGE}` already, and dbt takes each name once",
            hint="remove that entry; `sentinel init` brings the package itself",
        )
    taken = [project.root / path for path in _taken(project)]
    for name in _FOLDER_NAMES:
        place = project.root / name
        if not any(place.is_relative_to(path) or path.is_relative_to(place) for path in taken):
            break
    else:
        raise ConfigError(
            f"{PROJECT_FILE}: no folder is outside of its paths and clean-targets",
            hint="narrow them, so that Sentinel's dbt package can be installed with them",
        )
    if _holds_something(place) and vendored.kept(place) is None:
        raise ConfigError(
            f"{name} is there and is not Sentinel's dbt package",
            hint="rename it; `sentinel init` keeps its package under that name",
        )
    return name


def _holds_something(place: Path) -> bool:
    return any(place.iterdir()) if place.is_dir() else place.exists()


def _taken(project: ProjectFile) -> list[str]:
    """The folders that dbt reads, writes or cleans."""
    raw = load_yaml(project.root / PROJECT_FILE)
    paths = [path for folders in project.paths.values() for path in folders]
    paths += project.clean_targets
    paths += [project.packages_install_path, project.target_path, str(raw.get("log-path", "logs"))]
    assets = raw.get("asset-paths")
    return paths + (assets if isinstance(assets, list) else [])


def _vendor(plan: _Plan, folder: str, upgrade: bool) -> None:
    ours, theirs = vendored.shipped(), vendored.kept(plan.root / folder)
    place = f"{folder}/"
    if theirs is None:
        plan.note(place, "created", f"Sentinel's dbt package {ours.version}")
    elif theirs.files == ours.files:
        plan.note(place, "unchanged", f"Sentinel's dbt package {ours.version}")
        return
    elif vendored.newer(theirs.version, ours.version):
        if upgrade:
            raise ConfigError(
                f"{place} holds version {theirs.version} of the dbt package, newer than this"
                f" Sentinel's {ours.version}",
                hint="upgrade Sentinel: pip install --upgrade dbt-sentinel",
            )
        plan.note(place, "outdated", f"newer ({theirs.version}) than this Sentinel: upgrade it")
        return
    elif not upgrade:
        which = (
            f"version {theirs.version}, this Sentinel's is {ours.version}"
            if theirs.version != ours.version
            else "differs from what this Sentinel ships"
        )
        plan.note(place, "outdated", f"{which}: renew it by `sentinel init --upgrade`")
        return
    else:
        plan.note(place, "updated", f"from {theirs.version} to {ours.version}")
    before = theirs.files if theirs else {}
    for name, content in ours.files.items():
        if before.get(name) != content:
            plan.writes[plan.root / folder / name] = content
    plan.removals += [plan.root / folder / name for name in before if name not in ours.files]


def _declare(plan: _Plan, packages: packages_file.Packages, folder: str) -> None:
    name = packages.path.name
    if any(entry.kind == "local" and entry.source == folder for entry in packages.entries):
        plan.note(name, "unchanged")
        return
    try:
        text = yaml_edit.append(packages.text, "packages", {"local": folder})
    except yaml_edit.CannotEditError as error:
        raise _by_hand(name, error, f"packages:\n  - local: {folder}") from error
    plan.write(name, text, f"added `local: {folder}`")
    lock = packages_file.lock(packages, folder)
    if lock is not None and lock.text is not None:
        plan.write(packages_file.LOCK_FILE, lock.text, "added the package; other versions stay")
    elif lock is not None:
        plan.note(packages_file.LOCK_FILE, "unchanged", lock.detail)


def _install(plan: _Plan, project: ProjectFile, folder: str) -> None:
    """Links the package where dbt looks for it, as `dbt deps` does for a local one."""
    name = f"{project.packages_install_path}/{vendored.PACKAGE}"
    link, place = plan.root / name, plan.root / folder
    if link.is_symlink():
        if link.resolve() == place:
            plan.note(name, "unchanged")
            return
        if link.exists() and not vendored.is_ours(link):
            raise _other_package(name)
    elif link.exists() and not vendored.is_ours(link):
        raise _other_package(name)
    old = link.is_symlink() or link.exists()
    plan.note(name, "updated" if old else "created", f"links to {folder}, as `dbt deps` does")
    plan.steps.append(lambda: _link(link, place))


def _other_package(name: str) -> ConfigError:
    return ConfigError(
        f"{name} holds another package named `{vendored.PACKAGE}`, and dbt takes each name once",
        hint="remove it from the project's packages",
    )


def _settings(plan: _Plan, project: ProjectFile) -> None:
    """The `models:` settings that keep dbt from emptying the tables (design, section 9)."""
    path = plan.root / PROJECT_FILE
    text = files.read(path).decode("utf-8")
    done: list[str] = []
    try:
        text = _put_settings(text, ("models", vendored.PACKAGE), _SETTINGS, done)
        alerts = ("models", project.name, "alerts")
        if _at(text, alerts, "materialized") is None:
            text = yaml_edit.put(text, [*alerts, "+materialized"], "view")
            done.append("alerts as views")
    except yaml_edit.CannotEditError as error:
        block = {vendored.PACKAGE: _SETTINGS, project.name: {"alerts": {"+materialized": "view"}}}
        block[vendored.PACKAGE] = _plus(_SETTINGS)
        raise _by_hand(
            PROJECT_FILE, error, yaml.safe_dump({"models": block}, sort_keys=False)
        ) from error
    plan.write(PROJECT_FILE, text, ", ".join(done))


def _put_settings(
    text: str, path: tuple[str, ...], settings: Mapping[str, Any], done: list[str]
) -> str:
    if not _at(text, path[:-1], path[-1]):
        done.append("settings of Sentinel's tables")
        return yaml_edit.put(text, path, _plus(settings), comment=_MODELS_COMMENT)
    for name, wanted in settings.items():
        if name in ("tables", "views"):
            for inner, value in wanted.items():
                text = _put_setting(text, (*path, name), inner, value, done)
        else:
            text = _put_setting(text, path, name, wanted, done)
    return text


def _put_setting(text: str, path: tuple[str, ...], name: str, wanted: Any, done: list[str]) -> str:
    found = _at(text, path, name)
    if found == wanted and type(found) is type(wanted):
        return text
    spelled = _spelling(text, path, name)
    done.append(f"{'.'.join(path[1:])}.{name}")
    return yaml_edit.put(text, [*path, spelled], wanted)


def _spelling(text: str, path: tuple[str, ...], name: str) -> str:
    """dbt takes a setting with and without `+`; one that stands there keeps its spelling."""
    place = _walk(text, path)
    if isinstance(place, dict) and name in place:
        return name
    return f"+{name}"


def _at(text: str, path: tuple[str, ...], name: str) -> Any:
    place = _walk(text, path)
    if not isinstance(place, dict):
        return None
    return place.get(f"+{name}", place.get(name))


def _walk(text: str, path: tuple[str, ...]) -> Any:
    place = yaml.safe_load(text)
    for key in path:
        place = place.get(key) if isinstance(place, dict) else None
    return place


def _plus(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name if name in ("tables", "views") else f"+{name}": (
            _plus(value) if name in ("tables", "views") else value
        )
        for name, value in settings.items()
    }


def _sentinel_yml(plan: _Plan) -> None:
    if (plan.root / _CONFIG_FILE).exists():
        plan.note(_CONFIG_FILE, "unchanged")
    else:
        plan.write(_CONFIG_FILE, _SENTINEL_YML, "channels and defaults")


def _example(plan: _Plan, project: ProjectFile) -> None:
    """An example where there is no alert yet; SQL that is there is never touched."""
    models = project.paths["model-paths"]
    if not models:
        return
    folder = plan.root / models[0] / "alerts"
    name = f"{models[0]}/alerts/{_EXAMPLE}"
    if (plan.root / name).exists():
        plan.note(name, "unchanged")
        return
    everywhere = [path for base in project.declared("model-paths") for path in base.rglob(_EXAMPLE)]
    if not everywhere and not any(folder.rglob("*.sql")):
        plan.write(name, _EXAMPLE_ALERT, "an alert to try: it is OK until you change it")


def _by_hand(name: str, error: Exception, lines: str) -> ProjectError:
    return ProjectError(
        f"{name} can't be edited safely: {error}", hint=f"add these lines to it:\n{lines}"
    )


def _replace(path: Path, content: bytes) -> None:
    """Replaces a file in one step; a link stays a link, and the mode stays as it was."""
    files.make_folder(path.parent)
    path = files.followed(path)
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else files.SHARED & ~_umask()
    files.replace(path, content, mode=mode, sync=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _link(link: Path, place: Path) -> None:
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        shutil.rmtree(link)
    files.make_folder(link.parent)
    try:
        link.symlink_to(os.path.relpath(place, link.parent.resolve()), target_is_directory=True)
    except OSError:
        # Where links aren't allowed, dbt copies, and so does this.
        shutil.copytree(place, link)
