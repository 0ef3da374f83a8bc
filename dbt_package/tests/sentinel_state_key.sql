{{ config(severity="warn", enabled=sentinel.tests_enabled()) }}
-- The key is there and unique: not every warehouse enforces it.
select state_key, count(*) as rows_with_it
from {{ builtins.ref("sentinel_state").render() }}
group by state_key
having state_key is null or count(*) > 1
