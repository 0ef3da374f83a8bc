"""What goes wrong around a daemon: it lives, says so in one place, and recovers by itself."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from tests.places.place import Place, profile
from tests.places.postgres import PostgresPlace

from .gate import gate_to
from .rig import DaemonProcess, Shop, open_shop, until

SLOW = """\
{{ config(meta={"sentinel": {"schedule": "* * * * *", "shape": "status"}}) }}
select 'OK' as status, pg_sleep(600)::text as message
"""


class TestServer:
    """A server that comes, goes and changes its password; files that are torn; two signals."""

    def test_it_outlives_what_happens_to_its_server_and_its_files(
        self, postgres: PostgresPlace, tmp_path: Path
    ) -> None:
        with (
            gate_to(postgres.host, postgres.port) as gate,
            a_role(postgres) as keeper,
            open_shop(tmp_path / "shop", postgres, ("revenue",)) as shop,
        ):
            behind = replace(postgres, host="127.0.0.1", port=gate.port, user=keeper)
            let_in(shop, behind, "first-of-passwords")
            # The server is down when the daemon starts.
            gate.shut()
            daemon = shop.daemon()
            until(lambda: daemon.said("problem"), "it says what it waits for")
            assert daemon.get("/healthz")[0] == 200
            status, said = daemon.get("/readyz")
            assert (status, said["ready"], said["problems"]) == (503, False, ["lease"])
            gate.open()
            recovers(shop, daemon)
            # It is lost, and comes back.
            gate.shut()
            until(lambda: not daemon.is_ready(), "it isn't ready without its server")
            assert daemon.get("/healthz")[0] == 200
            gate.open()
            recovers(shop, daemon)
            # A table is gone.
            postgres.execute("drop table shop.sentinel_history cascade")
            until(lambda: not daemon.is_ready(), "it isn't ready without its tables")
            [*_, problem] = daemon.said("problem")
            assert "doesn't exist" in problem["error"]
            assert "dbt run -s package:sentinel" in problem["hint"]
            shop.run("init")
            recovers(shop, daemon)
            # What dbt has left is torn.
            for name in ("manifest.json", "partial_parse.msgpack"):
                torn = list((shop.root / "target").rglob(name))
                assert torn, f"dbt leaves a {name}"
                for each in torn:
                    each.write_bytes(each.read_bytes()[:1000])
            loads = len(daemon.said("project loaded"))
            daemon.signal(signal.SIGHUP)
            until(lambda: len(daemon.said("project loaded")) > loads, "it is read all the same")
            # A secret of the profile is removed: what was good goes on.
            let_in(shop, behind, "{{ env_var('SENTINEL_NO_SUCH_VARIABLE') }}")
            until(lambda: ("dbt_project", "error") in shop.sent(), "that is told")
            goes_on(shop, daemon)
            let_in(shop, behind, "first-of-passwords")
            until(lambda: ("dbt_project", "error_resolved") in shop.sent(), "and that it is over")
            # It is changed on the server, and then in the profile.
            postgres.execute(f"alter role {keeper} password 'second-of-passwords'")
            drop_connections(postgres, keeper)
            until(lambda: not daemon.is_ready(), "it isn't ready with the old password")
            let_in(shop, behind, "second-of-passwords")
            recovers(shop, daemon)
            # Somebody who can't wait for a slow query.
            shop.write("models/slow.sql", SLOW)
            asks = "select 1 from pg_stat_activity where state = 'active' and pid <> "
            asks += "pg_backend_pid() and query like '%pg_sleep(600)%'"
            until(lambda: postgres.execute(asks), "the slow query runs")
            daemon.signal(signal.SIGTERM)
            until(lambda: daemon.said("stopping"), "it waits for the query")
            daemon.signal(signal.SIGTERM)
            assert daemon.process.wait(10) == 128 + signal.SIGTERM
            said = "\n".join(map(str, daemon.lines)) + "\n".join(daemon.odd)
            assert "of-passwords" not in said
            assert not daemon.said("fault"), "nothing of this is a bug in Sentinel's own"
            revenue = [row["slot"] for row in shop.evaluations("revenue")]
            assert len(revenue) == len(set(revenue)), "no slot was recorded twice"


@pytest.mark.parametrize("place", ["duckdb"], indirect=True)
class TestDisk:
    """A disk that is full for a while, on a database that is a file of this process."""

    def test_on_a_full_disk_it_waits_and_loses_nothing(self, place: Place, tmp_path: Path) -> None:
        with open_shop(tmp_path / "shop", place, ("revenue",)) as shop:
            daemon = shop.daemon()
            goes_on(shop, daemon)
            # No file may grow beyond a byte: what a full disk is to whoever writes.
            pid, hard = daemon.process.pid, resource.RLIM_INFINITY
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
            shop.set("revenue", 0)
            until(lambda: not daemon.is_ready(), "it isn't ready")
            assert daemon.get("/healthz")[0] == 200
            assert ("revenue", "firing") not in shop.sent(), "nobody is told what isn't saved"
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
            until(lambda: ("revenue", "firing") in shop.sent(), "it fires")
            until(daemon.is_ready, "it is ready again")
            goes_on(shop, daemon)
            assert daemon.stop() == 0
            assert not daemon.said("fault")
            assert shop.sent().count(("revenue", "firing")) == 1


@contextmanager
def a_role(place: PostgresPlace) -> Iterator[str]:
    """Somebody else who may do everything, so that the others keep their password."""
    name = f"keeper_{uuid4().hex[:8]}"
    place.execute(f"create role {name} superuser login password 'first-of-passwords'")
    try:
        yield name
    finally:
        place.execute(f"alter role {name} nologin")
        drop_connections(place, name)
        place.execute(f"reassign owned by {name} to {place.user}")
        place.execute(f"drop role {name}")


def drop_connections(place: PostgresPlace, role: str) -> None:
    ends = "select pg_terminate_backend(pid) from pg_stat_activity where usename = "
    place.execute(f"{ends}'{role}'")


def let_in(shop: Shop, place: Place, password: str) -> None:
    """Write the profile with this password."""
    given = profile(place)
    given["shop"]["outputs"]["dev"]["password"] = password
    shop.write("profiles.yml", yaml.safe_dump(given))


def recovers(shop: Shop, daemon: DaemonProcess) -> None:
    until(lambda: daemon.get("/readyz")[1]["problems"] == [], "nothing is wrong", 90)
    assert daemon.is_ready()
    goes_on(shop, daemon)


def goes_on(shop: Shop, daemon: DaemonProcess) -> None:
    """Another slot is recorded."""
    before = len(shop.evaluations("revenue"))
    until(lambda: len(shop.evaluations("revenue")) > before, "it goes on", 90)
    assert daemon.process.poll() is None
