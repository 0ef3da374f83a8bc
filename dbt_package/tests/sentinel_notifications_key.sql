{{ config(severity="warn", enabled=sentinel.tests_enabled()) }}
-- The key is there and unique: not every warehouse enforces it.
select notification_id, count(*) as rows_with_it
from {{ builtins.ref("sentinel_notifications").render() }}
where created_at >= {{ sentinel.days_ago(7) }} or created_at is null
group by notification_id
having notification_id is null or count(*) > 1
