with
    dated as (
        select
            raw_order.id as order_id,
            raw_order.customer_id,
            raw_order.ordered_minute,
            {{ add_days("shop_today.today", "-1 * raw_order.ordered_days_ago") }}
            as ordered_on,
            {{ add_days("shop_today.today", "-1 * raw_order.shipped_days_ago") }}
            as shipped_on
        from {{ ref("raw_orders") }} as raw_order
        cross join {{ ref("shop_today") }} as shop_today
    )

select
    order_id,
    customer_id,
    {{ at_minute("ordered_on", "ordered_minute") }} as ordered_at,
    ordered_on,
    shipped_on
from dated
