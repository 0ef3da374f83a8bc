"""Runs a DAG in Airflow's own environment: `python airflow_runs.py FOLDER DAG_ID TIME...`.

Prints one JSON document: the errors of importing the folder, the tasks, and for each logical date
the state and the tries of every task.
"""

from __future__ import annotations

import contextlib
import json
import sys
from datetime import datetime, timedelta
from typing import Any

import airflow

TWO = airflow.__version__.startswith("2.")
if TWO:
    # The table of users, that others refer to.
    import airflow.providers.fab.auth_manager.models
    from airflow.models.dagbag import DagBag
else:
    from airflow.dag_processing.dagbag import DagBag


def main(folder: str, dag_id: str, *moments: str) -> dict[str, Any]:
    bag = DagBag(folder)
    if bag.import_errors:
        return {"errors": bag.import_errors}
    dag = bag.dags[dag_id]
    for task in dag.tasks:
        task.retry_delay = timedelta()
    runs = []
    for moment in moments:
        date = datetime.fromisoformat(moment)
        run = dag.test(date) if TWO else dag.test(logical_date=date)
        runs.append({each.task_id: [each.state, each.try_number] for each in tasks_of(run)})
    return {
        "errors": {},
        "version": airflow.__version__,
        "tasks": {task.task_id: task.retries for task in dag.tasks},
        "catchup": dag.catchup,
        "runs": runs,
    }


def tasks_of(run: Any) -> list[Any]:
    return sorted(run.get_task_instances(), key=lambda each: str(each.task_id))


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        found = main(*sys.argv[1:])
    print(json.dumps(found, default=str))  # noqa: T201 - what the tests read
