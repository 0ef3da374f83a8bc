with
    totals as (
        select order_id, count(*) as order_lines, sum(amount) as total
        from {{ ref("stg_order_items") }}
        group by order_id
    )

select
    stg_orders.order_id,
    stg_orders.customer_id,
    customer.region,
    stg_orders.ordered_at,
    stg_orders.ordered_on,
    {{ add_days("stg_orders.ordered_on", "customer.promised_days") }} as promised_by,
    stg_orders.shipped_on,
    totals.order_lines,
    totals.total
from {{ ref("stg_orders") }} as stg_orders
inner join totals on totals.order_id = stg_orders.order_id
inner join
    {{ ref("stg_customers") }} as customer
    on customer.customer_id = stg_orders.customer_id
