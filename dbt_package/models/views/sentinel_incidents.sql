with
    seen as (
        select
            project, incident_id, alert_id, alert, instance, episode_id, as_of, severity
        from {{ builtins.ref("sentinel_history").render() }}
        where incident_id is not null
        union all
        select
            project,
            incident_id,
            alert_id,
            alert,
            instance,
            episode_id,
            episode_started as as_of,
            peak_severity as severity
        from {{ builtins.ref("sentinel_state").render() }}
        where incident_id is not null
    ),
    still_open as (
        select project, incident_id, count(*) as open_instances
        from {{ builtins.ref("sentinel_state").render() }}
        where
            incident_id is not null
            and phase in ('firing', 'recovering')
            and removed_since is null
        group by project, incident_id
    ),
    instances as (
        select
            project,
            incident_id,
            alert_id,
            instance,
            max(alert) as alert,
            count(distinct episode_id) as episodes,
            min(as_of) as first_seen,
            max(as_of) as last_seen,
            max({{ sentinel.severity_rank("severity") }}) as peak_rank
        from seen
        group by project, incident_id, alert_id, instance
    ),
    in_order as (
        select
            *,
            row_number() over (
                partition by project, incident_id
                order by first_seen, alert_id, instance
            ) as place
        from instances
    ),
    incidents as (
        select
            project,
            incident_id,
            min(first_seen) as started_at,
            max(last_seen) as last_seen_at,
            count(distinct alert_id) as alerts,
            count(*) as instances,
            cast(sum(episodes) as {{ dbt.type_bigint() }}) as episodes,
            max(peak_rank) as peak_rank,
            max(case when place = 1 then alert_id end) as root_alert_id,
            max(case when place = 1 then alert end) as root_alert
        from in_order
        group by project, incident_id
    )
select
    incidents.project,
    incidents.incident_id,
    case when still_open.incident_id is null then 'resolved' else 'open' end as status,
    incidents.started_at,
    incidents.last_seen_at,
    case
        when still_open.incident_id is null then incidents.last_seen_at
    end as resolved_at,
    {{ sentinel.severity_name("incidents.peak_rank") }} as peak_severity,
    incidents.root_alert_id,
    incidents.root_alert,
    incidents.alerts,
    incidents.instances,
    coalesce(still_open.open_instances, 0) as open_instances,
    incidents.episodes
from incidents
left join
    still_open
    on still_open.project = incidents.project
    and still_open.incident_id = incidents.incident_id
