-- Reads a view (open_orders); the limit is a dbt variable, so `--vars` can change it.
select
    case
        when count(*) > {{ var("max_open_orders") }} then 'ALERT' else 'OK'
    end as status,
    count(*) as actual_value,
    {{ var("max_open_orders") }} as threshold,
    cast(count(*) as {{ dbt.type_string() }}) || ' orders wait to be shipped' as message
from {{ ref("open_orders") }}
