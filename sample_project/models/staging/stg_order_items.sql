select
    id as order_item_id,
    order_id,
    product_id,
    quantity,
    quantity * unit_price_cents / 100.0 as amount
from {{ ref("raw_order_items") }}
