"""What `sentinel init` does to a dbt project: every change is worked out before any is written."""
