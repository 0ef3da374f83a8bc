"""Both engines over the real dbt and a real DuckDB file."""

from __future__ import annotations

import logging
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sentinel.bootstrap import introspect
from sentinel.core.errors import ProjectError
from sentinel.core.project import Compiled, Owner, Selection
from sentinel.dbt.command import CommandEngine
from sentinel.dbt.engine import Invocation, Node
from sentinel.dbt.options import DbtOptions, EngineChoice
from sentinel.dbt.project import DbtProject

from .conftest import make_shop, open_project, write

EXPECTED = {
    "one_ephemeral": "with __dbt__cte__e1 as (\n select 1 as x\n) select * from __dbt__cte__e1",
    "two_ephemerals": (
        "with __dbt__cte__e1 as (\n select 1 as x\n),  __dbt__cte__e2 as (\n"
        " select * from __dbt__cte__e1\n)"
        " select * from __dbt__cte__e2, __dbt__cte__e1 as again"
    ),
    "vars": "select 99 as f, 'eu' as r",
    "environment": "select 'be' as country",
    "queried": 'select 42 as n from "shop"."main"."queried"',
    "packaged": (
        'select (amount / 100.0) from "shop"."main"."orders"'
        " where at < /*sentinel:as_of*/ now() /*sentinel:end*/"
    ),
}
USERS_FILES = (
    "target/manifest.json",
    "target/run_results.json",
    "target/partial_parse.msgpack",
    "target/perf_info.json",
    "target/graph.gpickle",
)
IDS = {name: f"model.shop.{name}" for name in [*EXPECTED, "broken", "orders"]}


class Shop:
    """A project that one engine has parsed and compiled, twice."""

    def __init__(self, folder: Path, engine: EngineChoice) -> None:
        self.root = make_shop(folder)
        write(self.root, {name: f"the user's {name}" for name in USERS_FILES})
        self.before = self.files()
        self.sent: list[str] = []
        self.project = open_project(self.root, engine, self.sent, vars="{floor: 99}")
        ids = [IDS[name] for name in EXPECTED]
        self.first = self.project.compile(ids)
        answers = self.project._cache.load().answers
        assert answers
        answers.compiled.clear()  # so that the same manifest is compiled again
        self.second = self.project.compile(ids)

    def files(self) -> dict[str, bytes]:
        """All files and folders but ours, with their content."""
        return {
            str(p.relative_to(self.root)): p.read_bytes() if p.is_file() else b""
            for p in sorted(self.root.rglob("*"))
            if "target/sentinel" not in str(p)
        }


@pytest.fixture(scope="module", params=["python", "command"])
def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_COUNTRY", "be")
        patch.setenv("SHOP_DB", str(folder / "shop.duckdb"))
        yield Shop(folder, request.param)


@pytest.fixture(scope="module")
def python_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("only_python")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_COUNTRY", "be")
        patch.setenv("SHOP_DB", str(folder / "shop.duckdb"))
        yield Shop(folder, "python")


def sql(found: Mapping[str, Compiled]) -> dict[str, str]:
    return {i.rsplit(".", 1)[1]: (c.sql or c.error or "").strip() for i, c in found.items()}


def test_the_sql_is_dbts_and_the_same_when_compiled_again(shop: Shop) -> None:
    assert sql(shop.first) == EXPECTED
    assert shop.second == shop.first


def test_the_users_artifacts_stay_as_they_were_and_nothing_is_added(shop: Shop) -> None:
    assert shop.files() == shop.before


def test_our_artifacts_are_private(shop: Shop) -> None:
    folder = shop.root / "target/sentinel"
    assert (folder / "manifest.json").is_file()
    for path in (folder, *folder.rglob("*")):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_a_model_that_fails_has_dbts_message(shop: Shop) -> None:
    found = shop.project.compile([IDS["broken"]])[IDS["broken"]]
    assert found.sql is None
    assert found.error == (
        "Compilation Error in model broken (models/alerts/broken.sql)\n  division by zero"
    )


def test_a_failing_model_stops_no_other(python_shop: Shop) -> None:
    found = python_shop.project.compile([IDS["broken"], IDS["queried"]])
    assert found[IDS["broken"]].error
    assert (found[IDS["queried"]].sql or "").strip() == EXPECTED["queried"]


def test_alerts_carry_what_dbt_knows_of_them(python_shop: Shop) -> None:
    bare, packaged = sorted(python_shop.project.alerts(), key=lambda a: a.name != "vars")
    assert (bare.name, bare.block, bare.folder_defaults) == ("vars", {}, None)
    assert packaged.unique_id == IDS["packaged"]
    assert packaged.block == {"schedule": "daily", "channels": ["console", "ops"]}
    assert packaged.folder_defaults == {"severity": "info"}
    assert packaged.group_owner == Owner("Fin", "fin@example.com", "#fin")
    assert packaged.depends_on == (IDS["orders"],)
    assert packaged.exposures == ("board",)
    assert set(packaged.tags) == {"all", "money"}
    assert (packaged.path, packaged.patch_path, packaged.description, packaged.package) == (
        "models/alerts/packaged.sql",
        "models/alerts/alerts.yml",
        "Late orders",
        "shop",
    )
    assert str(python_shop.project.locate(packaged, "channels", "1")) == (
        "models/alerts/alerts.yml:14"
    )


ALERTS = frozenset({*EXPECTED, "broken"})


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), {*ALERTS, "e1", "e2", "orders"}),
        (Selection(("tag:money",)), {"packaged"}),
        (Selection(("path:models/base", "vars")), {"e1", "e2", "orders", "vars"}),
        (Selection(("config.materialized:ephemeral",)), {"e1", "e2"}),
        (Selection(("+packaged",)), {"orders", "packaged"}),
        (Selection(("e2+",)), {"e2", "two_ephemerals"}),
        (Selection(("package:shop",), ("alerts",)), {"e1", "e2", "orders"}),
        (Selection(("+exposure:board",)), {"orders"}),
        (Selection(selector="orders_only"), {"orders"}),
        (Selection(("tag:all,path:models/alerts/v*",)), {"vars"}),
        (Selection(("package:helper",)), set()),
        (Selection(("no_such_model",)), set()),
    ],
)
def test_selection_is_dbts(python_shop: Shop, selection: Selection, expected: set[str]) -> None:
    found = python_shop.project.select(selection)
    assert found == {f"model.shop.{name}" for name in expected}


def test_the_command_engine_selects_alike(shop: Shop) -> None:
    selection = Selection(("tag:money", "e2+"), ("e2",))
    assert shop.project.select(selection) == {IDS["packaged"], IDS["two_ephemerals"]}


def test_an_unknown_selector_is_a_project_error(python_shop: Shop) -> None:
    with pytest.raises(ProjectError, match="selector named nope"):
        python_shop.project.select(Selection(selector="nope"))


def test_after_a_compile_the_database_is_free(python_shop: Shop) -> None:
    assert python_shop.project.compile([IDS["queried"]])[IDS["queried"]].sql
    path = os.environ["SHOP_DB"]
    with duckdb.connect(path, read_only=True) as connection:
        assert connection.execute("select 1").fetchall() == [(1,)]
    code = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('create table t (x int)')"
    subprocess.run([sys.executable, "-c", code, path], check=True)


def test_dbt_is_silent_and_leaves_the_process_as_it_was(
    python_shop: Shop, capfd: pytest.CaptureFixture[str]
) -> None:
    def surroundings() -> object:
        handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
        root = logging.getLogger()
        return handlers, root.level, list(root.handlers), dict(os.environ), Path.cwd(), sys.stdout

    shop = open_project(python_shop.root, vars="{floor: 1}")
    before = surroundings()
    shop.alerts()
    shop.select(Selection(("tag:money",)))
    shop.compile([IDS["queried"], IDS["broken"]])
    assert surroundings() == before
    assert capfd.readouterr() == ("", "")


def test_what_others_print_during_dbt_is_no_result_of_ours(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = make_shop(tmp_path)

    def talk(*given: Any) -> AbstractContextManager[Any]:
        print("a driver that talks")  # noqa: T201 - what is to be kept off
        return introspect(*given)

    project = DbtProject(DbtOptions(root, root), cwd=root, introspection=talk)
    assert project.compile([IDS["queried"]])[IDS["queried"]].sql
    out, err = capfd.readouterr()
    assert (out, "a driver that talks" in err) == ("", True)


def test_a_kept_answer_needs_no_dbt(python_shop: Shop) -> None:
    open_project(python_shop.root, vars="{floor: 2}").compile([IDS["packaged"]])
    code = """
import os, sys
from pathlib import Path
from sentinel.core.project import Selection
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.project import DbtProject
root = Path(sys.argv[1])
project = DbtProject(DbtOptions(root, root, vars="{floor: 2}", engine="python"), cwd=root)
assert len(project.alerts()) == 2
project.tables(), project.name, project.profile(), project.locate(project.alerts()[0], "schedule")
sql = project.compile(["model.shop.packaged"])["model.shop.packaged"].sql
assert len(project.select(Selection(("tag:money",)))) == 1
heavy = [m for m in ("dbt.cli", "dbt.adapters", "dbt_common", "duckdb") if m in sys.modules]
print(heavy, sql.strip())
"""
    open_project(python_shop.root, vars="{floor: 2}").select(Selection(("tag:money",)))
    done = subprocess.run(
        [sys.executable, "-c", code, str(python_shop.root)], capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr) == (f"[] {EXPECTED['packaged']}", "")


OURS = {
    "dbt_packages/sentinel/dbt_project.yml": "name: sentinel\nversion: '4.5.6'\n",
    "dbt_packages/sentinel/models/sentinel_state.sql": "{{ config(materialized='table') }} select 1 as x",
    "dbt_packages/sentinel/models/other.sql": "select 1 as x",
    "packages.yml": "packages: [{local: ../helper}, {local: dbt_packages/sentinel}]",
}


def test_our_tables_are_where_dbt_makes_them(tmp_path: Path) -> None:
    root = make_shop(tmp_path, {k: v for k, v in OURS.items() if "/" not in k})
    write(root, OURS)
    project = open_project(root)
    tables = project.tables()
    assert dict(tables.relations) == {"sentinel_state": '"shop"."main"."sentinel_state"'}
    assert tables.version == "4.5.6"
    project.make_tables()
    with duckdb.connect(os.environ["SHOP_DB"], read_only=True) as connection:
        assert connection.execute("select x from main.sentinel_state").fetchall() == [(1,)]
    assert sql(project.compile([IDS["two_ephemerals"]])) == {
        "two_ephemerals": EXPECTED["two_ephemerals"]
    }


def test_progress_is_told(python_shop: Shop) -> None:
    sent = ["starting dbt", "parsing the dbt project", "compiling alerts"]
    assert python_shop.sent[:3] == sent


@pytest.mark.parametrize("engine", ["python", "command"])
def test_state_selects_what_changed_and_defer_refers_to_it(
    tmp_path: Path, engine: EngineChoice
) -> None:
    root = make_shop(tmp_path)
    state = tmp_path / "state"
    prod = open_project(root, target="prod", target_path=state)
    prod.alerts()
    (state / "sentinel/manifest.json").rename(state / "manifest.json")
    write(root, {"models/alerts/vars.sql": "select 1 as changed"})
    project = open_project(root, engine, state=state, defer=True)
    if engine == "python":
        assert project.select(Selection(("state:modified",))) == {IDS["vars"]}
    found = project.compile([IDS["packaged"]])[IDS["packaged"]]
    assert found.error is None
    assert '"shop"."prod"."orders"' in (found.sql or "")


def test_a_default_selector_is_what_no_selection_means(tmp_path: Path) -> None:
    selectors = """
selectors:
  - name: few
    default: true
    definition: {method: tag, value: money}
"""
    project = open_project(make_shop(tmp_path, {"selectors.yml": selectors}))
    assert project.select(Selection()) == {IDS["packaged"]}
    assert project.select(Selection(("vars",))) == {IDS["vars"]}


@pytest.mark.parametrize("engine", ["python", "command"])
def test_a_project_that_does_not_parse_has_dbts_message(
    tmp_path: Path, engine: EngineChoice
) -> None:
    project = open_project(make_shop(tmp_path, {"models/bad.sql": "{{ ref('gone') }}"}), engine)
    with pytest.raises(ProjectError, match=r"bad.* \(models/bad\.sql\) depends on .*gone") as error:
        project.alerts()
    assert "\x1b" not in str(error.value)


def test_dbts_message_is_scrubbed_of_secrets(tmp_path: Path) -> None:
    root = make_shop(tmp_path)
    profiles = (
        "shop: {target: dev, outputs: {dev: {type: duckdb, path: x, motherduck_token: 123456789}}}"
    )
    write(
        root,
        {
            "profiles.yml": profiles,
            "models/bad.sql": "{{ exceptions.raise_compiler_error('123456789') }}",
        },
    )
    with pytest.raises(ProjectError) as error:
        open_project(root).alerts()
    assert "123456789" not in f"{error.value} {error.value.hint}"


FAKE_DBT = """#!{python}
import json, os, sys
names = [w[len("fqn:shop."):] for w in sys.argv if w.startswith("fqn:")]
target = sys.argv[sys.argv.index("--target-path") + 1]
if "bad" in names:
    print(json.dumps({{"info": {{"level": "error", "msg": "no"}}, "data": {{"exc": "it is bad"}}}}))
    sys.exit(1)
nodes = {{f"model.shop.{{n}}": {{"compiled_code": f"sql {{n}}"}} for n in names}}
open(target + "/manifest.json", "w").write(json.dumps({{"nodes": nodes}}))
open(target + "/" + sys.argv[1], "w").write(os.environ.get("PGOPTIONS", ""))
"""


def test_the_command_engine_finds_the_one_model_that_fails(tmp_path: Path) -> None:
    dbt = tmp_path / "dbt-of-another-kind"
    dbt.write_text(FAKE_DBT.format(python=sys.executable))
    dbt.chmod(0o755)
    (tmp_path / "dbt").mkdir()
    engine = CommandEngine(Invocation(DbtOptions(tmp_path), tmp_path, tmp_path), str(dbt))
    nodes = [Node(f"model.shop.{n}", ("shop", n)) for n in ("a", "b", "bad", "c", "d")]
    found = engine.compile(nodes)
    assert {c.unique_id.split(".")[2]: c.sql or c.error for c in found.values()} == {
        "a": "sql a",
        "b": "sql b",
        "bad": "it is bad",
        "c": "sql c",
        "d": "sql d",
    }


def test_the_command_engine_asks_postgres_for_sessions_that_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=8MB")
    dbt = tmp_path / "dbt-of-another-kind"
    dbt.write_text(FAKE_DBT.format(python=sys.executable))
    dbt.chmod(0o755)
    (tmp_path / "dbt").mkdir()
    engine = CommandEngine(Invocation(DbtOptions(tmp_path), tmp_path, tmp_path), str(dbt))
    engine.compile([Node("model.shop.a", ("shop", "a"))])
    engine.run(Selection())
    reading, writing = (tmp_path / "dbt" / name for name in ("compile", "run"))
    assert reading.read_text() == "-c work_mem=8MB -c default_transaction_read_only=on"
    assert writing.read_text() == "-c work_mem=8MB"


def test_two_projects_may_take_turns_in_one_process(python_shop: Shop, tmp_path: Path) -> None:
    other: DbtProject = open_project(make_shop(tmp_path), vars="{floor: 3}")
    assert "select 3 as f" in (other.compile([IDS["vars"]])[IDS["vars"]].sql or "")
    assert sql(python_shop.project.compile([IDS["queried"]]))["queried"] == EXPECTED["queried"]
    again = other.compile([IDS["queried"]])[IDS["queried"]]
    assert "select 42" in (again.sql or "")


def test_threads_may_ask_several_projects_at_once(tmp_path: Path) -> None:
    several = [open_project(make_shop(tmp_path / n), vars="{floor: 99}") for n in "ab"]
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(p.compile, [IDS["queried"], IDS["vars"]]) for p in several * 2]
        for answer in asked:
            found = sql(answer.result())
            assert (found["queried"], found["vars"]) == (EXPECTED["queried"], EXPECTED["vars"])


def test_an_environment_that_empties_refs_empties_no_alert(
    python_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBT_EMPTY", "1")
    shop = open_project(python_shop.root, vars="{floor: 5}")
    assert sql(shop.compile([IDS["packaged"]]))["packaged"] == EXPECTED["packaged"]
