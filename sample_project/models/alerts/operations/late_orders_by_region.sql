-- One row a region, and so one state a region: each fires and resolves for itself.
with
    due as (
        select
            region,
            case
                when shipped_on is null or shipped_on > promised_by then 1 else 0
            end as is_late
        from {{ ref("orders") }}
        where
            promised_by < {{ to_date(sentinel.as_of()) }}
            and promised_by >= {{ add_days(to_date(sentinel.as_of()), -7) }}
    ),

    by_region as (
        select region, count(*) as due_orders, sum(is_late) as late_orders
        from due
        group by region
    )

select
    region,
    case when late_orders > 0.2 * due_orders then 'ALERT' else 'OK' end as status,
    late_orders / (1.0 * due_orders) as actual_value,
    0.2 as threshold,
    cast(late_orders as {{ dbt.type_string() }})
    || ' of '
    || cast(due_orders as {{ dbt.type_string() }})
    || ' orders for the '
    || region
    || ', due in the last seven days, are late' as message
from by_region
