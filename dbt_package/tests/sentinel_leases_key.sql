{{ config(severity="warn", enabled=sentinel.tests_enabled()) }}
-- The key is there and unique: not every warehouse enforces it.
select lease, count(*) as rows_with_it
from {{ builtins.ref("sentinel_leases").render() }}
group by lease
having lease is null or count(*) > 1
