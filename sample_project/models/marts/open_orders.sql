{{ config(materialized="view") }}

select order_id, customer_id, region, ordered_on, promised_by, total
from {{ ref("orders") }}
where shipped_on is null
