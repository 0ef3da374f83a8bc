{{
    config(
        meta={
            "sentinel": {
                "schedule": "0 6 * * *",
                "severity": "critical",
                "owner": "Ada Berg",
                "runbook": "https://shop.example.com/runbooks/revenue-drop",
            }
        }
    )
}}

-- The last closed day against the average of the same weekday in the four weeks before.
with
    -- The last day that has ended and has data. If newer data is missing, that is for
    -- orders_are_fresh to say: one cause, one alert.
    last_day as (
        select max(revenue_date) as revenue_date
        from {{ ref("daily_revenue") }}
        where revenue_date < {{ to_date(sentinel.as_of()) }}
    ),

    compared as (
        select
            last_day.revenue_date,
            max(
                case when daily.revenue_date = last_day.revenue_date then revenue end
            ) as revenue,
            avg(
                case when daily.revenue_date < last_day.revenue_date then revenue end
            ) as usual_revenue
        from last_day
        inner join
            {{ ref("daily_revenue") }} as daily
            on daily.revenue_date in (
                last_day.revenue_date,
                {{ add_days("last_day.revenue_date", -7) }},
                {{ add_days("last_day.revenue_date", -14) }},
                {{ add_days("last_day.revenue_date", -21) }},
                {{ add_days("last_day.revenue_date", -28) }}
            )
        group by last_day.revenue_date
    )

select
    -- Both cases are spelled out: a missing number gives no status, which Sentinel
    -- reports
    -- as an error, instead of an OK that nobody checked.
    case
        when revenue < 0.7 * usual_revenue
        then 'ALERT'
        when revenue >= 0.7 * usual_revenue
        then 'OK'
    end as status,
    revenue as actual_value,
    0.7 * usual_revenue as threshold,
    revenue_date,
    'Revenue of '
    || cast(revenue_date as {{ dbt.type_string() }})
    || ' was '
    || {{ rounded("revenue") }}
    || ', '
    || {{ rounded("100 * revenue / usual_revenue - 100") }}
    || '% against the usual '
    || {{ rounded("usual_revenue") }}
    || ' of that weekday' as message
from compared
