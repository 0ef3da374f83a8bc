-- A silence ends after it starts.
select silence_id, starts_at, ends_at
from {{ ref("sentinel_silences") }}
where starts_at is null or ends_at is null or ends_at < starts_at
