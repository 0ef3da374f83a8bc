{{ config(meta={"sentinel": {"schedule": "0 7 * * *"}}) }}

-- The number of order lines that arrived for the last closed day, against the day a
-- week before.
-- A half-loaded file looks healthy in every other way.
with
    daily as (
        select ordered_on, sum(order_lines) as order_lines
        from {{ ref("orders") }}
        where ordered_on < {{ to_date(sentinel.as_of()) }}
        group by ordered_on
    ),

    compared as (
        select
            today.ordered_on,
            today.order_lines,
            week_before.order_lines as lines_week_before
        from daily as today
        inner join
            daily as week_before
            on week_before.ordered_on = {{ add_days("today.ordered_on", -7) }}
        where today.ordered_on = (select max(ordered_on) from daily)
    )

select
    case
        when order_lines < 0.5 * lines_week_before then 'ALERT' else 'OK'
    end as status,
    order_lines as actual_value,
    0.5 * lines_week_before as threshold,
    ordered_on,
    cast(order_lines as {{ dbt.type_string() }})
    || ' order lines on '
    || cast(ordered_on as {{ dbt.type_string() }})
    || ', against '
    || cast(lines_week_before as {{ dbt.type_string() }})
    || ' a week before' as message
from compared
