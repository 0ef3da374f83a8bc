with
    instances as (
        select
            *,
            case
                when removed_since is null and phase in ('firing', 'recovering') then 1
            end as is_open
        from {{ builtins.ref("sentinel_state").render() }}
    ),
    alerts as (
        select
            project,
            alert_id,
            max(case when instance = '' then unique_id end) as head_unique_id,
            max(unique_id) as any_unique_id,
            max(case when instance = '' then alert end) as head_alert,
            max(alert) as any_alert,
            max(health) as health,
            max(health_since) as health_since,
            max(error_count) as error_count,
            count(case when phase = 'ok' then 1 end) as instances_ok,
            count(case when phase = 'pending' then 1 end) as instances_pending,
            count(case when phase = 'firing' then 1 end) as instances_firing,
            count(case when phase = 'recovering' then 1 end) as instances_recovering,
            min(case when is_open = 1 then episode_started end) as firing_since,
            max(
                case when is_open = 1 then {{ sentinel.severity_rank("severity") }} end
            ) as severity_rank,
            max(last_as_of) as last_as_of,
            max(case when instance = '' then last_slot end) as last_slot,
            max(case when instance = '' then removed_since end) as removed_since
        from instances
        group by project, alert_id
    ),
    -- One evaluation leaves a row per instance.
    evaluations as (
        select
            project,
            alert_id,
            run_id,
            as_of,
            attempt,
            max(recorded_at) as recorded_at,
            case
                when max(recorded_at) >= {{ sentinel.days_ago(30) }} then 1
            end as is_recent,
            case
                when max(recorded_at) >= {{ sentinel.month_start() }}
                then 0
                when max(recorded_at) >= {{ sentinel.month_start(1) }}
                then 1
            end as months_ago,
            max(case when outcome = 'alert' then 1 else 0 end) as is_alert,
            max(case when outcome = 'error' then 1 else 0 end) as is_error,
            max(duration_ms) as duration_ms,
            max(bytes_billed) as bytes_billed
        from {{ builtins.ref("sentinel_history").render() }}
        where outcome in ('ok', 'alert', 'error', 'empty')
        group by project, alert_id, run_id, as_of, attempt
    ),
    activity as (
        select
            project,
            alert_id,
            max(recorded_at) as last_evaluated_at,
            count(is_recent) as evaluations_30d,
            count(case when is_recent = 1 and is_alert = 1 then 1 end) as alerts_30d,
            count(case when is_recent = 1 and is_error = 1 then 1 end) as errors_30d,
            avg(case when is_recent = 1 then duration_ms end) as avg_duration_ms_30d,
            cast(
                sum(
                    case when months_ago = 0 then bytes_billed end
                ) as {{ dbt.type_bigint() }}
            ) as bytes_billed_this_month,
            cast(
                sum(
                    case when months_ago = 1 then bytes_billed end
                ) as {{ dbt.type_bigint() }}
            ) as bytes_billed_last_month
        from evaluations
        group by project, alert_id
    ),
    episodes as (
        select project, alert_id, count(distinct episode_id) as episodes_30d
        from {{ builtins.ref("sentinel_history").render() }}
        where
            recorded_at >= {{ sentinel.days_ago(30) }}
            and phase_after in ('firing', 'recovering')
        group by project, alert_id
    ),
    notifications as (
        select
            project,
            alert_id,
            count(
                case when status in ('pending', 'claimed') then 1 end
            ) as notifications_waiting,
            count(case when status = 'dead' then 1 end) as notifications_undeliverable
        from {{ builtins.ref("sentinel_notifications").render() }}
        group by project, alert_id
    )
select
    alerts.project,
    alerts.alert_id,
    coalesce(alerts.head_unique_id, alerts.any_unique_id) as unique_id,
    coalesce(alerts.head_alert, alerts.any_alert) as alert,
    case
        when alerts.removed_since is not null
        then 'removed'
        when alerts.instances_firing > 0
        then 'firing'
        when alerts.instances_recovering > 0
        then 'recovering'
        when alerts.instances_pending > 0
        then 'pending'
        when alerts.instances_ok > 0
        then 'ok'
    end as phase,
    {{ sentinel.severity_name("alerts.severity_rank") }} as severity,
    alerts.firing_since,
    alerts.instances_ok,
    alerts.instances_pending,
    alerts.instances_firing,
    alerts.instances_recovering,
    alerts.health,
    alerts.health_since,
    alerts.error_count,
    alerts.last_as_of,
    alerts.last_slot,
    activity.last_evaluated_at,
    coalesce(activity.evaluations_30d, 0) as evaluations_30d,
    coalesce(activity.alerts_30d, 0) as alerts_30d,
    coalesce(activity.errors_30d, 0) as errors_30d,
    coalesce(episodes.episodes_30d, 0) as episodes_30d,
    activity.avg_duration_ms_30d,
    activity.bytes_billed_this_month,
    activity.bytes_billed_last_month,
    coalesce(notifications.notifications_waiting, 0) as notifications_waiting,
    coalesce(
        notifications.notifications_undeliverable, 0
    ) as notifications_undeliverable
from alerts
left join
    activity
    on activity.project = alerts.project
    and activity.alert_id = alerts.alert_id
left join
    episodes
    on episodes.project = alerts.project
    and episodes.alert_id = alerts.alert_id
left join
    notifications
    on notifications.project = alerts.project
    and notifications.alert_id = alerts.alert_id
