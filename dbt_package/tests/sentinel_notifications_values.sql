{{ config(severity="warn", enabled=sentinel.tests_enabled()) }}
-- Every row has a status that Sentinel knows, and what was sent says when.
select notification_id, status, sent_at
from {{ builtins.ref("sentinel_notifications").render() }}
where
    created_at >= {{ sentinel.days_ago(7) }}
    and (
        status is null
        or status
        not in ('pending', 'claimed', 'sent', 'dead', 'superseded', 'cancelled')
        or (status = 'sent' and sent_at is null)
    )
