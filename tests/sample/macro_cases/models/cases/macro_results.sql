select
    n,
    {{ add_days("from_day", "more_days") }} as another_day,
    {{ at_minute("from_day", "minute_of_day") }} as a_time,
    {{ to_date(at_minute("from_day", "minute_of_day")) }} as its_day,
    {{ to_date("'2026-01-31'") }} as a_literal,
    {{
        hours_between(
            at_minute("from_day", 59), at_minute("from_day", "minute_of_day")
        )
    }} as hours,
    {{ rounded("amount") }} || ' in all' as amount
from {{ ref("macro_cases") }}
