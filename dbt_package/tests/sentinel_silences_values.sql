{{ config(severity="warn", enabled=sentinel.tests_enabled()) }}
-- A silence ends after it starts.
select silence_id, starts_at, ends_at
from {{ builtins.ref("sentinel_silences").render() }}
where starts_at is null or ends_at is null or ends_at < starts_at
