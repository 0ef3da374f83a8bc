select n, {{ sentinel.severity_rank("severity") }} as result
from {{ ref("severities") }}
