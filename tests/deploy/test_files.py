"""What deploys Sentinel agrees with itself and with the code; `make lint` checks the formats."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from starlette.routing import Route

from sentinel import __version__
from sentinel.cli.main import COMMANDS, cli
from sentinel.config.settings import SchedulerSettings, WebSettings
from sentinel.web.access import Rules
from sentinel.web.metrics import Metrics
from sentinel.web.server import Shown, application
from tests.deploy.files import (
    DOCKER,
    ROOT,
    UNIT,
    compose,
    context,
    dockerfile,
    install_script,
    locked,
    manifest,
    manifests,
    unit,
)

# What ending takes beyond the draining: the web server has ten seconds of its own.
DRAINED = SchedulerSettings().drain_timeout.total_seconds() + 10
PORT = WebSettings().port
LOCKS = sorted(path for path in DOCKER.glob("*.lock") if path.stem != "build")


def pods() -> list[dict[str, Any]]:
    return [
        manifest("Deployment")["spec"]["template"]["spec"],
        manifest("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"],
    ]


def understood(words: list[str]) -> None:
    """Fails if the command line doesn't know these words."""
    name, *rest = words
    assert name in COMMANDS
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    command.make_context(name, rest)


# -- a release ---------------------------------------------------------------------------------


def test_everything_that_states_the_version_states_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    package = yaml.safe_load((ROOT / "dbt_project.yml").read_text())
    assert __version__ == project["version"] == package["version"]


# -- the image ---------------------------------------------------------------------------------


def test_the_image_is_no_root_by_number_and_so_are_the_pods() -> None:
    user, _, group = dockerfile()[1].one("USER").partition(":")
    assert int(user) > 0
    for pod in pods():
        security = pod["securityContext"]
        assert (security["runAsUser"], security["runAsGroup"]) == (int(user), int(group))
        assert security["runAsNonRoot"] is True


def test_what_the_image_runs_is_understood() -> None:
    image = dockerfile()[1]
    assert image.words("ENTRYPOINT") == ["sentinel"]
    understood(image.words("CMD"))
    name, *words = image.words("HEALTHCHECK")
    assert name == "sentinel"
    understood(words)
    assert int(image.one("EXPOSE")) == PORT


def test_variables_of_the_image_are_options() -> None:
    for name in dockerfile()[1].env:
        if name.startswith("SENTINEL_"):
            _, command, option = name.lower().split("_", 2)
            found = cli.get_command(click.Context(cli), command)
            assert found is not None
            assert option in {parameter.name for parameter in found.params}


def test_the_two_stages_have_the_same_python() -> None:
    """The environment has the path of its Python in it."""
    assert len({stage.one("FROM").split()[0] for stage in dockerfile()}) == 1


def test_every_path_of_the_build_is_there_and_nothing_else_gets_in() -> None:
    for name in context():
        assert (ROOT / name).exists(), name
    with (ROOT / "pyproject.toml").open("rb") as file:
        hatch = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*hatch["packages"], *hatch["force-include"]} <= set(context())


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: str(path.stem))
def test_a_lock_of_the_image_has_the_versions_that_are_tested(path: Path) -> None:
    tested = locked(ROOT / "requirements.lock")
    for name, versions in locked(path).items():
        assert versions <= tested[name], name


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: str(path.stem))
def test_a_lock_of_the_image_has_what_is_needed_and_nothing_of_the_tests(path: Path) -> None:
    found = set(locked(path))
    assert {"dbt-core", "dbt-duckdb", "duckdb"} <= found
    assert set(locked(DOCKER / "duckdb.lock")) <= found
    assert ({"psycopg-binary", "psycopg2-binary"} <= found) == (path.stem == "postgres")
    assert ("google-cloud-bigquery" in found) == (path.stem == "bigquery")
    assert not found & {"pytest", "mypy", "ruff", "hatchling", "pgserver"}
    left_out = re.findall(r"^([\w-]+) ;", (DOCKER / "left_out.txt").read_text(), re.MULTILINE)
    assert "pandas" in left_out
    assert not found & set(left_out)


def test_slimming_takes_test_suites_stubs_and_locales_and_leaves_dbts_generic_tests(
    tmp_path: Path,
) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    gone = [
        "babel/locale-data/fr.dat", "networkx/tests/test_graph.py", "networkx/tests/__init__.py",
        "duckdb/__init__.pyi",
    ]  # fmt: skip
    kept = [
        "babel/locale-data/root.dat", "babel/locale-data/en_US.dat", "networkx/__init__.py",
        "dbt/include/global_project/tests/generic/builtin.sql",
    ]  # fmt: skip
    for name in (*gone, *kept):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).touch()
    install_script().slim(tmp_path)
    left = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert left == set(kept)


def test_an_unknown_warehouse_ends_the_build(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="unknown: oracle; known are apprise, bigquery, duckdb"):
        install_script().install_packages(tmp_path / "environment", ["duckdb", "oracle"])
    assert not (tmp_path / "environment").exists()


# -- compose -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["build", "daemon"])
def test_a_service_needs_no_rights(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["tmpfs"] == ["/tmp"]


def test_every_variable_of_compose_is_in_the_example_and_no_other() -> None:
    used = re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text())
    lines = (ROOT / ".env.example").read_text().splitlines()
    offered = [line.partition("=")[0] for line in lines if line and not line.startswith("#")]
    assert set(used) == set(offered)


def test_compose_publishes_the_port_on_this_machine_only() -> None:
    (port,) = compose()["services"]["daemon"]["ports"]
    assert port.startswith("127.0.0.1:")
    assert port.endswith(f":{PORT}")


def test_compose_builds_with_an_argument_that_there_is() -> None:
    given = compose()["services"]["daemon"]["build"]["args"]
    assert set(given) <= set(dockerfile()[0].args)
    assert given["WAREHOUSES"] == f"${{WAREHOUSES:-{dockerfile()[0].args['WAREHOUSES']}}}"


# -- kubernetes --------------------------------------------------------------------------------


@pytest.mark.parametrize("pod", pods(), ids=["daemon", "run"])
def test_a_pod_needs_no_rights(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert {each["name"] for each in pod["volumes"]} == {
        each["name"] for each in container["volumeMounts"]
    }
    writable = {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"/tmp", *dockerfile()[1].all("VOLUME")}


@pytest.mark.parametrize("pod", pods(), ids=["daemon", "run"])
def test_a_pod_takes_settings_and_secrets_that_there_are(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    understood(container["args"])
    names = {kind: each["metadata"]["name"] for kind, each in manifests()}
    config, secret = container["envFrom"]
    assert config["configMapRef"]["name"] == names["ConfigMap"]
    assert secret["secretRef"]["name"] == names["Secret"]
    given = {*manifest("ConfigMap")["data"], *manifest("Secret")["stringData"]}
    profile = manifest("ConfigMap")["data"]["profiles.yml"]
    assert set(re.findall(r"env_var\('(\w+)'\)", profile)) <= given


def test_probes_ask_for_pages_that_there_are() -> None:
    (container,) = pods()[0]["containers"]
    probes = {name: container[name]["httpGet"] for name in container if name.endswith("Probe")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }

    def condition() -> Any:
        raise NotImplementedError

    served = application(Shown(condition, lambda: None, Metrics()), Rules(None, True), print).routes
    paths = {route.path for route in served if isinstance(route, Route)}
    assert {probe["path"] for probe in probes.values()} <= paths
    assert container["ports"] == [{"name": "http", "containerPort": PORT}]
    assert {probe["port"] for probe in probes.values()} == {"http"}


def test_one_of_two_replicas_may_be_taken_away() -> None:
    deployment, budget = manifest("Deployment")["spec"], manifest("PodDisruptionBudget")["spec"]
    assert (deployment["replicas"], budget["minAvailable"]) == (2, 1)
    selected = deployment["selector"]["matchLabels"]
    assert selected == deployment["template"]["metadata"]["labels"]
    assert selected == budget["selector"]["matchLabels"] == manifest("Service")["spec"]["selector"]
    run = manifest("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    assert not selected.items() <= run.items()


# -- the end -----------------------------------------------------------------------------------


def test_everybody_waits_for_the_daemon_to_finish() -> None:
    grace = compose()["services"]["daemon"]["stop_grace_period"]
    waits = [
        int(grace.removesuffix("s")),
        manifest("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"],
        int(unit()["TimeoutStopSec"][0]),
    ]
    assert min(waits) > DRAINED
    for page in ("deploy-with-docker", "deploy-on-kubernetes", "run-under-systemd"):
        words = (ROOT / "docs" / "how-to" / f"{page}.md").read_text().split()
        assert f"{waits[0]} seconds" in " ".join(words), page


# -- systemd -----------------------------------------------------------------------------------


def test_the_unit_restarts_reloads_and_may_do_little() -> None:
    settings = {name: values[-1] for name, values in unit().items()}
    assert settings["Restart"] == "on-failure"
    assert settings["ExecReload"].endswith("kill -HUP $MAINPID")
    assert settings["CapabilityBoundingSet"] == ""
    assert (settings["NoNewPrivileges"], settings["ProtectSystem"]) == ("yes", "strict")
    program, *words = settings["ExecStart"].split()
    assert program.endswith("/bin/sentinel")
    understood(words)


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """Where it is installed; its own check looks for the program and the folder as well."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return
    copy = tmp_path / UNIT.name
    text = UNIT.read_text().replace("/opt/sentinel/bin/sentinel", "/bin/true")
    copy.write_text(text.replace("/srv/shop", str(tmp_path)))
    done = subprocess.run([analyze, "verify", copy], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, said) == (0, [])
