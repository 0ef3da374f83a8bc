-- An order without lines would be missing from the mart, and from every alert on it.
select placed.order_id
from {{ ref("stg_orders") }} as placed
left join {{ ref("stg_order_items") }} as line on line.order_id = placed.order_id
where line.order_id is null
