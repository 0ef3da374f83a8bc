select
    n,
    case
        when happened_at < {{ sentinel.as_of() }} then 'past' else 'not past'
    end as result
from {{ ref("moments") }}
