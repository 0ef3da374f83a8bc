{{ config(severity="warn", enabled=sentinel.tests_enabled()) }}
-- An alert's health and slots stand in one place: its head row.
select project, alert_id, count(case when instance = '' then 1 end) as heads
from {{ builtins.ref("sentinel_state").render() }}
group by project, alert_id
having count(case when instance = '' then 1 end) <> 1
