"""Evaluate the alerts of a dbt project every hour, in as many tasks as there are shards.

A task may be retried, cleared or run twice: an alert's slot is recorded and told once. Airflow 2.9
or newer, and Airflow 3.
"""

import os
import shlex
from datetime import UTC, datetime, timedelta

try:
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.operators.bash import BashOperator

# Airflow's pins conflict with dbt's: `sentinel` is in an environment of its own on each worker.
SENTINEL = os.environ.get("SENTINEL_COMMAND", "/opt/sentinel/bin/sentinel")
PROJECT = os.environ.get("SHOP_PROJECT_DIR", "/srv/shop")
SHARDS = 2

with DAG(
    dag_id="shop_alerts",
    schedule="0 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    # Alerts look at the present: of slots that were missed, the latest says what is so.
    catchup=False,
    # An older slot that comes late goes into history only.
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    tags=["sentinel"],
) as dag:
    for number in range(1, SHARDS + 1):
        BashOperator(
            task_id=f"alerts_{number}_of_{SHARDS}",
            # A firing alert is no failed task (`--fail-on never`). Exit codes 2, 3 and 4 are.
            bash_command=(
                f"{shlex.quote(SENTINEL)} run --project-dir {shlex.quote(PROJECT)} "
                f'--slot "{{{{ data_interval_end }}}}" --shard {number}/{SHARDS} --fail-on never'
            ),
        )
