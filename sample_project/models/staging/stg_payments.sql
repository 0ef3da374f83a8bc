with
    dated as (
        select
            payment.id as payment_id,
            payment.order_id,
            payment.method,
            payment.amount_cents,
            payment.paid_minute,
            {{ add_days("shop_today.today", "-1 * payment.paid_days_ago") }} as paid_on
        from {{ ref("raw_payments") }} as payment
        cross join {{ ref("shop_today") }} as shop_today
    )

select
    payment_id,
    order_id,
    method,
    amount_cents / 100.0 as amount,
    {{ at_minute("paid_on", "paid_minute") }} as paid_at,
    paid_on
from dated
