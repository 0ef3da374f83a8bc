-- Orders are loaded every night, so the newest one is never older than a day and a
-- half.
with
    newest as (
        select max(ordered_at) as ordered_at
        from {{ ref("orders") }}
        where ordered_at <= {{ sentinel.as_of() }}
    ),

    age as (
        select
            ordered_at, {{ hours_between("ordered_at", sentinel.as_of()) }} as age_hours
        from newest
    )

select
    case when age_hours > 36 then 'ALERT' when age_hours <= 36 then 'OK' end as status,
    age_hours as actual_value,
    36 as threshold,
    'The newest order is '
    || cast(age_hours as {{ dbt.type_string() }})
    || ' hours old; the nightly load keeps it under 36' as message
from age
