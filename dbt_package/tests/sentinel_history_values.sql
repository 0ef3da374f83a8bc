{{ config(severity="warn", enabled=sentinel.tests_enabled()) }}
-- Every value is one that Sentinel knows; another means that something else wrote the
-- row.
select evaluation_id, outcome, phase_before, phase_after, severity
from {{ builtins.ref("sentinel_history").render() }}
where
    recorded_at >= {{ sentinel.days_ago(7) }}
    and (
        outcome not in ('ok', 'alert', 'error', 'empty', 'skipped')
        or phase_before not in ('ok', 'pending', 'firing', 'recovering')
        or phase_after not in ('ok', 'pending', 'firing', 'recovering')
        or severity not in ('info', 'warning', 'critical')
    )
