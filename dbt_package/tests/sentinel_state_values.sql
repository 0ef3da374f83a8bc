{{ config(severity="warn", enabled=sentinel.tests_enabled()) }}
-- Every value is one that Sentinel knows; another means that something else wrote the
-- row.
select state_key, phase, severity, peak_severity, last_outcome, health
from {{ builtins.ref("sentinel_state").render() }}
where
    phase not in ('ok', 'pending', 'firing', 'recovering')
    or severity not in ('info', 'warning', 'critical')
    or peak_severity not in ('info', 'warning', 'critical')
    or last_outcome not in ('ok', 'alert', 'error', 'empty', 'skipped')
    or health not in ('healthy', 'failing')
