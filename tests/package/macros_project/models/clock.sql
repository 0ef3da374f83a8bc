-- A view, so it tells the time at which it is read.
select
    {{ sentinel.utc_now() }} as utc_now,
    {{ sentinel.as_of() }} as as_of,
    {{ sentinel.days_ago(30) }} as days_ago,
    {{ sentinel.month_start() }} as month_start,
    {{ sentinel.month_start(13) }} as another_month_start
