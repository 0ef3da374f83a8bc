# mypy: ignore-errors
# Its imports are in another environment, which mypy doesn't see.
"""Starts the stand-in for BigQuery; run by the python of `.venv-bqemulator`, not imported.

Prints its URL as one line, and ends when its standard input closes, so that it can't outlive
the tests. What it mends in `bqemulator` are differences from the real service that a test of
Sentinel would meet; each function below is one of them.
"""

import asyncio
import contextlib
import contextvars
import functools
import os
import re
import sys
import threading

import sqlglot
from bqemulator.api.routes import jobs
from bqemulator.catalog import ddl_sync
from bqemulator.config import Settings
from bqemulator.domain.errors import DomainError, InvalidQueryError
from bqemulator.jobs import executor
from bqemulator.scripting import interpreter
from bqemulator.scripting.ast import SqlStmt
from bqemulator.scripting.exceptions import ScriptRaise
from bqemulator.scripting.interpreter import ScriptInterpreter
from bqemulator.server import EmulatorServer
from bqemulator.sql.parameters import _extract_value
from bqemulator.sql.rewriter import create_table_schema_ctas
from bqemulator.storage.engine import DuckDBEngine
from fastapi.responses import JSONResponse
from sqlglot import exp

STATUS = {
    "notFound": (404, "NOT_FOUND"),
    "accessDenied": (403, "PERMISSION_DENIED"),
    "duplicate": (409, "ALREADY_EXISTS"),
}
UNENFORCED_KEY = re.compile(r",?\s*primary\s+key\s*(\([^)]*\))?\s*not\s+enforced", re.IGNORECASE)
ASSERT = re.compile(r"assert\b(.*?)(?:\bas\s+('[^']*'|\"[^\"]*\"))?", re.IGNORECASE | re.DOTALL)
# Of the job that is running: its dataset, if it is a script, its parameters, its longest time,
# and how many rows its last DML changed.
DEFAULT_DATASET = contextvars.ContextVar("default_dataset", default=None)
PARAMETERS = contextvars.ContextVar("parameters", default=())
TIMEOUT_MS = contextvars.ContextVar("timeout_ms", default=None)
ROW_COUNT = contextvars.ContextVar("row_count", default=0)


def start_without_extensions():
    """DuckDB's `spatial` is downloaded when it is first used; no test needs geography."""
    DuckDBEngine._load_spatial = lambda self: None


def parse_once():
    """It parses each statement some fifteen times, which is more than half of all its work."""
    parse = functools.lru_cache(1000)(sqlglot.parse_one)

    def parse_one(sql, read=None, **others):
        if others:
            return parse.__wrapped__(sql, read=read, **others)
        return parse(sql, read=read).copy()

    sqlglot.parse_one = parse_one


def refuse_failing_queries():
    """jobs.query of failing SQL: the real service refuses the request, this one answers 200.

    It also leaves out `defaultDataset`, which it knows in jobs.insert only.
    """
    answer = jobs.query

    async def query(project_id: str, request: jobs.Request, ctx: jobs._Ctx, caller: jobs._Caller):
        body = await request.json()  # the request keeps it: the emulator reads this very object
        body["query"] = jobs._apply_default_dataset(
            body.get("query", ""), body, request_project_id=project_id
        )
        TIMEOUT_MS.set(body.get("jobTimeoutMs"))
        given = await answer(project_id, request, ctx, caller)
        if not given.get("errors"):
            return given
        errors = [{"domain": "global", **error} for error in given["errors"]]
        code, status = STATUS.get(errors[0]["reason"], (400, "INVALID_ARGUMENT"))
        error = {"code": code, "message": errors[0]["message"], "errors": errors, "status": status}
        return JSONResponse({"error": error}, status_code=code)

    routes = jobs.router.routes
    routes[:] = [route for route in routes if route.endpoint is not answer]
    jobs.router.post("/projects/{project_id}/queries")(query)


def find_tables_in_the_default_dataset():
    """It understands a script as one statement, and takes INFORMATION_SCHEMA for a table."""
    qualify_statement = jobs._apply_default_dataset

    def qualify(sql, config, *, request_project_id):
        is_script = not is_one_statement(sql)
        DEFAULT_DATASET.set((config, request_project_id) if is_script else None)
        if is_script or "information_schema" in sql.lower():
            return sql
        return qualify_statement(sql, config, request_project_id=request_project_id)

    def qualified(run):
        async def run_qualified(self, sql):
            if given := DEFAULT_DATASET.get():
                config, project_id = given
                sql = qualify_statement(sql, config, request_project_id=project_id)
            return await run(self, sql)

        return run_qualified

    jobs._apply_default_dataset = qualify
    ScriptInterpreter._run_query = qualified(ScriptInterpreter._run_query)
    ScriptInterpreter._exec_sql = qualified(ScriptInterpreter._exec_sql)


def is_one_statement(sql):
    try:
        script = executor.parse_script(sql).statements
    except DomainError:
        return True  # whoever runs it says what is wrong with it
    return len(script) == 1 and isinstance(script[0], SqlStmt)


def bind_parameters_in_scripts():
    """In scripts only variables are bound: neither `@name` parameters nor these `@@name`."""
    bind_variables = interpreter._rewrite_vars_to_params

    def bind(sql, frames):
        sql = re.sub(r"@@row_count\b", str(ROW_COUNT.get()), sql, flags=re.IGNORECASE)
        sql = re.sub(r"@@error\.message\b", "__error_message__", sql, flags=re.IGNORECASE)
        sql, values = bind_variables(sql, frames)
        given = {each["name"]: each for each in PARAMETERS.get() if each.get("name")}
        if not given or "@" not in sql:
            return sql, values
        try:
            tree = sqlglot.parse_one(sql, read="bigquery")
        except sqlglot.errors.SqlglotError:
            return sql, values  # the emulator says what is wrong with it
        for node in list(tree.find_all(exp.Parameter)):
            if parameter := given.get(node.name):
                kind = parameter["parameterType"]["type"]
                node.replace(
                    interpreter._build_scalar_placeholder(
                        _extract_value(parameter), None if kind == "ARRAY" else kind, values
                    )
                )
        return tree.sql(dialect="bigquery"), values

    interpreter._rewrite_vars_to_params = bind


def complete_the_statements_of_scripts():
    """ASSERT is unknown to it, and `@@row_count` of what ran before."""
    run_query, run_sql = ScriptInterpreter._run_query, ScriptInterpreter._exec_sql

    async def run_and_count(self, sql):
        table = await run_query(self, sql)
        if table.column_names == ["Count"] and not interpreter._is_row_producing(sql):
            ROW_COUNT.set(table["Count"][0].as_py())
        return table

    async def run_or_assert(self, sql):
        found = ASSERT.fullmatch(sql.strip())
        if not found:
            await run_sql(self, sql)
            return
        condition, words = found.groups()
        if not await self._eval_expr_scalar(condition):
            raise ScriptRaise(InvalidQueryError(words[1:-1] if words else "Assertion failed"))

    ScriptInterpreter._run_query = run_and_count
    ScriptInterpreter._exec_sql = run_or_assert


def create_tables_as_dbt_does():
    """`create table t (columns) as (select ...)`: it knows the body without parentheses only.

    It casts the select to the types of the columns; what else is said of them gets lost, of
    which NOT NULL is all that the real service enforces.
    """
    first_select, run_single = create_table_schema_ctas._first_select, executor._run_single_sql

    def find_first_select(body):
        return first_select(body.unnest() if isinstance(body, exp.Subquery) else body)

    async def run_and_constrain(project_id, sql, parameters, ctx, **others):
        table = await run_single(project_id, sql, parameters, ctx, **others)
        tree = sqlglot.parse_one(sql, read="bigquery") if "not null" in sql.lower() else None
        if isinstance(tree, exp.Create) and isinstance(tree.this, exp.Schema) and tree.expression:
            name = executor.quoted_table_ref(*ddl_sync._split_target(tree.this.this, project_id))
            for constraint in tree.this.find_all(exp.NotNullColumnConstraint):
                column = constraint.find_ancestor(exp.ColumnDef).name
                ctx.engine.execute(f'alter table {name} alter "{column}" set not null')
        return table

    create_table_schema_ctas._first_select = find_first_select
    executor._run_single_sql = run_and_constrain


def answer_errors_of_queries_as_such():
    """RAISE, and what DuckDB says that nobody foresaw, would be a fault of the server (500).

    Google's client would try those again for ten minutes.
    """
    run = jobs.execute_query_job

    async def execute_query_job(project_id, job_id, sql, parameters, ctx, **others):
        PARAMETERS.set(tuple(parameters or ()))
        # DuckDB would enforce the keys, or not understand that they aren't enforced.
        sql = UNENFORCED_KEY.sub("", sql)
        try:
            with stopped_in_time(ctx.engine.connection):
                return await run(project_id, job_id, sql, parameters, ctx, **others)
        except ScriptRaise as raised:
            raise InvalidQueryError(raised.message, location="query") from raised
        except DomainError as error:
            # sqlglot underlines for a terminal what it doesn't understand.
            error.message = re.sub(r"\x1b\[\d+m", "", error.message)
            raise
        except Exception as error:
            raise InvalidQueryError(str(error), location="query") from error

    jobs.execute_query_job = execute_query_job


@contextlib.contextmanager
def stopped_in_time(connection):
    """`jobTimeoutMs`, which it doesn't know: the real service stops such a job."""
    seconds = int(TIMEOUT_MS.get() or 0) / 1000
    timer = threading.Timer(seconds, connection.interrupt)
    if seconds:
        timer.start()
    try:
        yield
    except DomainError as error:
        if seconds and timer.finished.is_set() and "interrupt" in error.message.lower():
            raise Stopped(
                f"Job execution was cancelled: Job timed out after {seconds:g}s"
            ) from error
        raise
    finally:
        timer.cancel()


class Stopped(InvalidQueryError):
    bq_reason = "stopped"


def remember_the_timeout_of_inserted_jobs():
    handle = jobs._handle_query_job

    async def handle_query_job(project_id, job_id, config, **others):
        TIMEOUT_MS.set(config.get("jobTimeoutMs"))
        return await handle(project_id, job_id, config, **others)

    jobs._handle_query_job = handle_query_job


def call_every_query_a_select():
    """One in parentheses has no statement type otherwise."""
    classify = executor.classify_statement_type

    def classify_statement_type(sql):
        found = classify(sql)
        return "SELECT" if not found and interpreter._is_row_producing(sql) else found

    executor.classify_statement_type = jobs.classify_statement_type = classify_statement_type


def try_scripts_dry():
    """A dry run of a script would run it; the real service only says that it is a script."""
    dry_run = jobs._dry_run_response

    async def answer(*, project_id, job_id, bq_sql, wire_shape, **others):
        if is_one_statement(bq_sql):
            return await dry_run(
                project_id=project_id, job_id=job_id, bq_sql=bq_sql, wire_shape=wire_shape, **others
            )
        reference = {"projectId": project_id}
        if wire_shape != "query":
            reference |= {"jobId": job_id, "location": "US"}
        return {
            "jobComplete": True,
            "totalBytesProcessed": "0",
            "schema": {"fields": []},
            "rows": [],
            "totalRows": "0",
            "statementType": "SCRIPT",
            "jobReference": reference,
        }

    jobs._dry_run_response = answer


def end_with_the_tests():
    def wait():
        sys.stdin.read()
        os._exit(0)  # a running query holds the event loop, so nothing gentler is sure to work

    threading.Thread(target=wait, daemon=True).start()


async def main():
    settings = Settings(
        rest_host="127.0.0.1",
        rest_port=0,
        grpc_host="127.0.0.1",
        grpc_port=0,
        log_level="error",
        enable_format_extensions=False,
    )
    server = EmulatorServer(settings)
    await server.start()
    print(f"listening on {server.rest_url}", flush=True)  # noqa: T201 the tests wait for it
    await asyncio.Event().wait()


if __name__ == "__main__":
    end_with_the_tests()
    start_without_extensions()
    parse_once()
    refuse_failing_queries()
    bind_parameters_in_scripts()
    find_tables_in_the_default_dataset()
    complete_the_statements_of_scripts()
    create_tables_as_dbt_does()
    answer_errors_of_queries_as_such()
    remember_the_timeout_of_inserted_jobs()
    call_every_query_a_select()
    try_scripts_dry()
    asyncio.run(main())
