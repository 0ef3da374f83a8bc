{{ config(severity="warn", enabled=sentinel.tests_enabled()) }}
-- The key is there and unique: not every warehouse enforces it.
select silence_id, count(*) as rows_with_it
from {{ builtins.ref("sentinel_silences").render() }}
group by silence_id
having silence_id is null or count(*) > 1
