select
    refund.id as refund_id,
    refund.order_id,
    refund.amount_cents / 100.0 as amount,
    {{ add_days("shop_today.today", "-1 * refund.refunded_days_ago") }} as refunded_on
from {{ ref("raw_refunds") }} as refund
cross join {{ ref("shop_today") }} as shop_today
