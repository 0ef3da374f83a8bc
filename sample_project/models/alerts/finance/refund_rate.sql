-- Refunds as a share of revenue, over the last seven closed days.
with
    last_week as (
        select sum(refunds) as refunds, sum(revenue) as revenue
        from {{ ref("daily_revenue") }}
        where
            revenue_date < {{ to_date(sentinel.as_of()) }}
            and revenue_date >= {{ add_days(to_date(sentinel.as_of()), -7) }}
    )

select
    case
        when refunds > 0.08 * revenue
        then 'ALERT'
        when refunds <= 0.08 * revenue
        then 'OK'
    end as status,
    refunds / nullif(revenue, 0) as actual_value,
    0.08 as threshold,
    'Refunds of the last seven days are '
    || {{ rounded("refunds") }}
    || ' of '
    || {{ rounded("revenue") }}
    || ' in revenue' as message
from last_week
