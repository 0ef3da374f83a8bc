"""What is shipped and deployed: named by content, with few rights, within limits."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sentinel.config.settings import WebSettings
from tests.deploy.files import ROOT, UNIT, compose, dockerfile, locked, manifest, manifests, unit

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
# A machine that no name leads to: what a closed network looks like.
CLOSED = "http://127.0.0.1:9"


def workflow(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def pods() -> Iterator[dict[str, Any]]:
    for _, each in manifests():
        spec = each.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            yield spec["template"]["spec"]


# -- content -----------------------------------------------------------------------------------


def test_base_images_are_named_by_digest() -> None:
    text = (ROOT / "Dockerfile").read_text()
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    for name in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        image = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], name)
        assert DIGEST.search(image), image
    ours = {stage.one("FROM").split()[0] for stage in dockerfile()}
    for name, service in compose()["services"].items():
        assert "build" in service or DIGEST.search(service["image"]), (name, ours)


def test_the_target_that_renews_digests_knows_every_image() -> None:
    script = (ROOT / "deploy/docker/digests.sh").read_text()
    renewed = set(re.findall(r"^renew (\S+)$", script, re.MULTILINE))
    named = set()
    for path in ("Dockerfile", "docker-compose.yml"):
        for tag in re.findall(r"([\w.:/-]+)@sha256:", (ROOT / path).read_text()):
            named.add(f"python:{tag}" if ":" not in tag else tag)
    assert renewed == named


def test_nothing_is_named_latest() -> None:
    named = [ROOT / "Dockerfile", ROOT / "docker-compose.yml"]
    files = [*named, *WORKFLOWS, *(ROOT / "deploy").rglob("*.yaml")]
    for path in files:
        text = path.read_text()
        assert not re.search(r":latest\b", text), path
        assert not re.search(r"runs-on: \S+-latest", text), path


def test_every_action_is_named_by_a_commit_and_its_release() -> None:
    used = [
        line.strip()
        for path in WORKFLOWS
        for line in path.read_text().splitlines()
        if re.match(r"\s*(- )?uses:", line)
    ]
    assert used
    for line in used:
        assert PINNED.fullmatch(line.removeprefix("- ").removeprefix("uses:").strip()), line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: str(path.stem))
def test_a_workflow_has_no_more_rights_than_its_jobs_need(path: Path) -> None:
    found = workflow(path)
    assert found["permissions"] == {}
    assert "pull_request_target" not in path.read_text()
    for name, job in found["jobs"].items():
        assert job["permissions"], name
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
            # An expression in a script is code of whoever chose its value.
            assert "${{" not in step.get("run", ""), step


def test_a_release_has_bills_of_materials_and_attestations() -> None:
    jobs = workflow(ROOT / ".github/workflows/release.yml")["jobs"]
    writing = {
        name for name, job in jobs.items() if "write" in (job["permissions"].get("contents"),)
    }
    assert writing == {"release"}
    steps = {name: [*job["steps"]] for name, job in jobs.items()}
    image = {
        step["uses"].partition("@")[0]: step.get("with", {})
        for step in steps["image"]
        if "uses" in step
    }
    assert image["docker/build-push-action"]["sbom"] is True
    assert image["docker/build-push-action"]["provenance"] == "mode=max"
    for action in ("actions/attest-build-provenance", "actions/attest-sbom"):
        assert image[action]["subject-digest"] == "${{ steps.image.outputs.digest }}"
    scripts = "\n".join(step.get("run", "") for step in steps["packages"])
    assert "make audit" in scripts
    assert "make sbom" in scripts
    uploaded = next(s for s in steps["packages"] if "upload-artifact" in s.get("uses", ""))
    assert "build/sbom/*.cdx.json" in uploaded["with"]["path"]


def test_bills_of_materials_are_written_without_network(tmp_path: Path) -> None:
    closed = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), CLOSED)
    words = [sys.executable, str(ROOT / "deploy/sbom.py"), str(tmp_path)]
    subprocess.run(
        words, env={**os.environ, **closed}, check=True, capture_output=True, timeout=300
    )
    bills = {
        name: json.loads((tmp_path / f"{name}.cdx.json").read_text())
        for name in ("requirements", "image")
    }
    for bill in bills.values():
        assert bill["bomFormat"] == "CycloneDX"
        assert bill["metadata"]["component"]["name"] == "dbt-sentinel"
    found = {(each["name"], each["version"]) for each in bills["image"]["components"]}
    for lock in ("duckdb", "postgres"):
        for name, versions in locked(ROOT / f"deploy/docker/{lock}.lock").items():
            assert {(name, version) for version in versions} <= found
    hashes = [each["externalReferences"] for each in bills["image"]["components"]]
    assert all(any(reference.get("hashes") for reference in each) for each in hashes)
    assert "pytest" in {each["name"] for each in bills["requirements"]["components"]}


def test_an_audit_without_its_service_says_that_nothing_was_checked() -> None:
    closed = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), CLOSED)
    done = subprocess.run(
        [sys.executable, ROOT / "deploy/audit.py"],
        env={**{k: v for k, v in os.environ.items() if k.lower() != "no_proxy"}, **closed},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 3, done.stdout
    assert "can't be reached from here: nothing was checked" in done.stdout
    assert "SERVICE=osv" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


# -- rights ------------------------------------------------------------------------------------


def test_no_container_is_privileged_or_without_a_seccomp_profile() -> None:
    for name, service in compose()["services"].items():
        options = service.get("security_opt", [])
        assert "no-new-privileges:true" in options, name
        assert not any("unconfined" in option for option in options), name
        assert not service.get("privileged")
        assert not service.get("cap_add")
        assert not {"pid", "ipc", "network_mode", "userns_mode"} & set(service), name
        assert not any("docker.sock" in str(volume) for volume in service.get("volumes", ()))
    for pod in pods():
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}


def test_everything_has_limits() -> None:
    for name, service in compose()["services"].items():
        assert service["mem_limit"], name
        assert service["pids_limit"] > 0, name
    for name in ("build", "daemon"):
        assert compose()["services"][name]["ulimits"]["nofile"] == {"soft": 4096, "hard": 4096}
    for pod in pods():
        for container in pod["containers"]:
            assert {"memory", "ephemeral-storage"} <= set(container["resources"]["limits"])
        for volume in pod["volumes"]:
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"], volume
    settings = {name: values[-1] for name, values in unit().items()}
    assert settings["LimitNOFILE"] == "4096"
    assert {"MemoryMax", "TasksMax"} <= set(settings)


def test_the_network_policy_opens_the_port_to_monitoring_and_closes_the_rest() -> None:
    spec = manifest("NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    selected = spec["podSelector"]["matchLabels"].items()
    for kind in ("Deployment", "CronJob"):
        found = manifest(kind)["spec"]
        labels = found.get("jobTemplate", {}).get("spec", found)["template"]["metadata"]["labels"]
        assert selected <= labels.items()
    (ingress,) = spec["ingress"]
    assert ingress["ports"] == [{"protocol": "TCP", "port": WebSettings().port}]
    assert all("namespaceSelector" in source for source in ingress["from"])
    for rule in spec["egress"]:
        assert rule["to"] and rule["ports"]
        for each in rule["to"]:
            if "ipBlock" in each:
                # Nothing that only the inside reaches, least of all the cloud's metadata.
                assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(each["ipBlock"]["except"])


def test_systemd_rates_the_unit_as_well_confined(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return
    copy = tmp_path / UNIT.name
    shutil.copy(UNIT, copy)
    words = [analyze, "security", "--offline=yes", "--threshold=20", str(copy)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "unknown option" in done.stderr.lower() or "unrecognized option" in done.stderr.lower():
        return  # older than systemd 250
    assert done.returncode == 0, done.stdout[-200:] + done.stderr
