select n, {{ sentinel.severity_name("severity_rank") }} as result
from {{ ref("severities") }}
