"""Dagster: each alert of a dbt project is an asset check on the models that it reads.

    from sentinel.integrations.dagster import build_alert_checks

    defs = Definitions(assets=[my_dbt_assets], asset_checks=build_alert_checks("shop"))

One `sentinel run` in a separate process evaluates all checks of a Dagster run, through the command's
documented JSON. A separate process keeps dbt's dependencies, global state and logging out of Dagster's
process, and allows `sentinel` to be in another environment. One process is enough, since importing dbt
takes seconds, for one alert as for a thousand.

Loading definitions reads only dbt's manifest, since Dagster loads them again for every run.
"""

# Dagster inspects the annotation of `context`, which must not be a string: no
# `from __future__ import annotations` here.

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckKey,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    Failure,
    MetadataValue,
    multi_asset_check,
)

from sentinel.core.project import AlertSource
from sentinel.dbt.manifest import alerts, load_manifest

Props = Mapping[str, Any]

_SCHEDULED = ".dagster/scheduled_execution_time"
# `sentinel run` prints its document with these exit codes: all is well, some alert could not be
# evaluated, some notification is undeliverable.
_EXIT_UNDELIVERABLE = 4
_WITH_DOCUMENT = (0, 3, _EXIT_UNDELIVERABLE)
_OPEN = ("firing", "recovering")
_RANKS = ("info", "warning", "critical")
_LONGEST_WORDS = 4_000


def build_alert_checks(
    project_dir: str | Path,
    *,
    manifest: str | Path | None = None,
    select: Callable[[Props], bool] | None = None,
    get_asset_key: Callable[[Props], AssetKey] | None = None,
    blocking: bool = False,
    name: str = "sentinel_alerts",
    slot: Callable[[AssetCheckExecutionContext], datetime | None] | None = None,
    sentinel: str | Path | None = None,
    options: Sequence[str] = (),
) -> Sequence[AssetChecksDefinition]:
    """Asset checks from the alerts of a dbt project; none if it has no alerts.

    A check is named after its alert. It is on every model, seed, snapshot or source that the alert
    reads, and on the alert's own model if it reads none. It passes unless the alert fires, is
    recovering, or could not be evaluated; a critical alert, and one that could not be evaluated,
    fails with severity ERROR, any other with WARN.

    `manifest`: dbt's manifest.json; the default is target/manifest.json in the project.
    `select`: the alerts to include, by their manifest node.
    `get_asset_key`: the asset key of a node in the manifest, such as a `DagsterDbtTranslator`'s
    `get_asset_key`; the default is dagster-dbt's (`default_asset_key`).
    `blocking`: whether a failed check of severity ERROR blocks downstream assets.
    `name`: the op's name; it must be unique if this function is called several times.
    `slot`: the slot that a Dagster run evaluates; the default is `run_slot`.
    `sentinel`: the command; the default is this environment's.
    `options`: additional options of `sentinel run`, such as `["--target", "prod"]`.

    Raises ProjectError if there is no manifest.
    """
    folder = Path(project_dir).absolute()
    graph = load_manifest(Path(manifest) if manifest else folder / "target" / "manifest.json")
    chosen = [
        alert
        for alert in alerts(graph)
        if _enabled(alert) and (select is None or select(graph["nodes"][alert.unique_id]))
    ]
    if not chosen:
        return []
    checks = _specs(graph, chosen, get_asset_key or default_asset_key, blocking=blocking)
    command = _Command(folder, str(sentinel or _of_this_environment()), tuple(options))
    find_slot = slot or run_slot

    def evaluate(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        wanted = [key for key in checks if key in context.selected_asset_check_keys]
        asked = dict.fromkeys(checks[key].alert.unique_id for key in wanted)
        selectors = [f"fqn:{'.'.join(graph['nodes'][each]['fqn'])}" for each in asked]
        document = command.run(context, selectors, find_slot(context))
        results: dict[str, list[Props]] = {}
        for each in document["results"]:
            results.setdefault(each["unique_id"], []).append(each)
        for key in wanted:
            check = checks[key]
            found = results.get(check.alert.unique_id)
            if found is None:
                context.log.warning(
                    f"alert {check.alert.name} was not evaluated: it is switched off, or no longer "
                    "an alert, and the manifest is older than that"
                )
                continue
            yield _result(key, found, _block(check.alert))

    made = multi_asset_check(
        specs=[check.spec for check in checks.values()],
        name=name,
        can_subset=True,
        compute_kind="sentinel",
    )
    return [made(evaluate)]


def default_asset_key(node: Props) -> AssetKey:
    """The asset key that dagster-dbt gives a node of the manifest unless a translator says otherwise.

    `meta.dagster.asset_key`; else the source and its table, the alias of a versioned model, the
    configured schema and the name, or just the name. As in
    https://docs.dagster.io/integrations/libraries/dbt/reference#understanding-asset-definition-attributes
    """
    meta = (node.get("config") or {}).get("meta") or node.get("meta") or {}
    configured = (meta.get("dagster") or {}).get("asset_key")
    if configured:
        return AssetKey(configured)
    if node["resource_type"] == "source":
        return AssetKey([node["source_name"], node["name"]])
    if node.get("version"):
        return AssetKey([node["alias"]])
    schema = (node.get("config") or {}).get("schema")
    return AssetKey([node["name"]] if schema is None else [schema, node["name"]])


def run_slot(context: AssetCheckExecutionContext) -> datetime | None:
    """A Dagster run's slot; None if the run was started manually.

    The end of its time partition, else the time for which its schedule has started it. A run that
    is retried has the same slot, so that it neither records nor notifies twice.
    """
    op = context.op_execution_context  # Dagster 1.8 has no partitions on the context itself
    if op.has_partition_key or op.has_partition_key_range:
        # Dagster raises for partitions that aren't of time; there is no public way to ask before.
        try:
            end: datetime = op.partition_time_window.end
        except Exception:  # noqa: BLE001 - whichever it raises, the run has no window
            context.log.debug("the run's partition is not one of time")
        else:
            return end
    scheduled = context.run.tags.get(_SCHEDULED)
    return None if scheduled is None else datetime.fromisoformat(scheduled)


@dataclass(frozen=True)
class _Check:
    alert: AlertSource
    spec: AssetCheckSpec


def _specs(
    graph: Mapping[str, Any],
    chosen: Sequence[AlertSource],
    get_asset_key: Callable[[Props], AssetKey],
    *,
    blocking: bool,
) -> dict[AssetCheckKey, _Check]:
    twins = Counter(alert.name for alert in chosen)
    found: dict[AssetCheckKey, _Check] = {}
    for alert in chosen:
        block = _block(alert)
        full = alert.unique_id.removeprefix("model.")
        check = re.sub(r"\W", "_", alert.name if twins[alert.name] == 1 else full)
        keys = dict.fromkeys(get_asset_key(node) for node in _read_by(graph, alert))
        for key in keys:
            spec = AssetCheckSpec(
                name=check,
                asset=key,
                description=str(block.get("description") or alert.description) or None,
                blocking=blocking,
                metadata={"alert": alert.unique_id, "path": alert.path} | _runbook(block),
            )
            found[spec.key] = _Check(alert, spec)
    return found


def _read_by(graph: Mapping[str, Any], alert: AlertSource) -> list[Props]:
    """The nodes that an alert reads, through ephemeral models; the alert's own if there are none."""
    nodes: dict[str, Any] = {**graph["nodes"], **(graph.get("sources") or {})}
    found: dict[str, Props] = {}
    left = list(alert.depends_on)
    seen: set[str] = set()
    while left:
        unique_id = left.pop(0)
        node = nodes.get(unique_id)
        if node is None or unique_id in seen:
            continue
        seen.add(unique_id)
        if (node.get("config") or {}).get("materialized") == "ephemeral":
            left += (node.get("depends_on") or {}).get("nodes") or []
        else:
            found[unique_id] = node
    return list(found.values()) or [nodes[alert.unique_id]]


def _block(alert: AlertSource) -> dict[str, Any]:
    """`meta.sentinel` over the folder's defaults, as far as they are what they should be."""
    blocks = [alert.folder_defaults, alert.block]
    return {
        key: value for block in blocks if isinstance(block, dict) for key, value in block.items()
    }


def _enabled(alert: AlertSource) -> bool:
    return _block(alert).get("enabled") is not False


def _runbook(block: Props) -> dict[str, Any]:
    text = block.get("runbook")
    if not isinstance(text, str):
        return {}
    web = text.startswith(("http://", "https://"))
    return {"runbook": MetadataValue.url(text) if web else text}


def _of_this_environment() -> Path | str:
    beside = Path(sys.executable).with_name("sentinel")
    return beside if beside.exists() else "sentinel"


@dataclass(frozen=True)
class _Command:
    """`sentinel run` of one project."""

    project_dir: Path
    sentinel: str
    options: tuple[str, ...]

    def run(
        self, context: AssetCheckExecutionContext, selectors: Sequence[str], slot: datetime | None
    ) -> Mapping[str, Any]:
        """The document of a run. Raises Failure if there is none: then nothing was evaluated."""
        words = [self.sentinel, "run", "--project-dir", str(self.project_dir), *self.options]
        words += ["--output", "json", "--fail-on", "never", "--select", *selectors]
        if slot is not None:
            words += ["--slot", slot.astimezone(UTC).isoformat()]
        context.log.info(f"evaluating {len(selectors)} alerts" + (f" for {slot}" if slot else ""))
        try:
            done = subprocess.run(  # noqa: S603 - the words are the definitions' own
                words, cwd=self.project_dir, capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise Failure(f"`{self.sentinel}` can't be started: {error}") from error
        said = done.stderr.strip()[-_LONGEST_WORDS:]
        if done.returncode not in _WITH_DOCUMENT:
            raise Failure(
                f"`sentinel run` ended with exit code {done.returncode}: {said}", allow_retries=True
            )
        if said:
            context.log.info(said)
        document: dict[str, Any] = json.loads(done.stdout)
        if done.returncode == _EXIT_UNDELIVERABLE or document["counts"]["undelivered"]:
            context.log.error(
                f"{document['counts']['undelivered']} notifications could not be delivered; "
                "`sentinel status` says why"
            )
        return document


def _result(key: AssetCheckKey, results: Sequence[Props], block: Props) -> AssetCheckResult:
    """The check of one alert, from its instances; the worst of them comes first."""
    failed = [each for each in results if each["outcome"] == "error"]
    firing = [each for each in results if each["phase"] in _OPEN]
    severities = [each["severity"] for each in firing if each["severity"]]
    worst = max(severities, key=_RANKS.index, default="critical")
    error = bool(failed) or worst == "critical"
    shown = [*failed, *firing, *results][0]
    metadata: dict[str, Any] = {
        "value" if name == "actual_value" else name: shown[name]
        for name in ("outcome", "phase", "severity", "actual_value", "threshold", "message")
        if shown[name] is not None
    }
    metadata["notified"] = sorted({name for each in results for name in each["notified"]})
    instances = [each for each in results if each["instance"]]
    if instances:
        names = ("instance", "outcome", "phase", "severity", "actual_value", "threshold", "message")
        metadata["instances"] = [{name: each[name] for name in names} for each in instances]
    return AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=not failed and not firing,
        severity=AssetCheckSeverity.ERROR if error else AssetCheckSeverity.WARN,
        description=shown["message"] or None,
        metadata=metadata | _runbook(block),
    )
