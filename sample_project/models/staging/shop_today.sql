{{ config(materialized="table") }}

-- The seeds say how many days ago something happened; this is the day they count
-- from. It is a
-- table, and the only place that looks at the clock, so that every model means the
-- same day by it
-- until the next full `dbt build`.
select {{ to_date("'" ~ run_started_at.strftime("%Y-%m-%d") ~ "'") }} as today
