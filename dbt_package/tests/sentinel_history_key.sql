{{ config(severity="warn", enabled=sentinel.tests_enabled()) }}
-- The key is there and unique: not every warehouse enforces it.
select evaluation_id, count(*) as rows_with_it
from {{ builtins.ref("sentinel_history").render() }}
where recorded_at >= {{ sentinel.days_ago(7) }} or recorded_at is null
group by evaluation_id
having evaluation_id is null or count(*) > 1
