{{
    config(
        meta={
            "sentinel": {
                "shape": "rows",
                "warn_if": ">0",
                "error_if": ">10",
                "runbook": "https://shop.example.com/runbooks/orphan-payments",
            }
        }
    )
}}

-- Money taken for an order that does not exist. Every row is a violation, as in a dbt
-- test.
select payment.payment_id, payment.order_id, payment.amount, payment.paid_on
from {{ ref("stg_payments") }} as payment
left join {{ ref("stg_orders") }} as placed on placed.order_id = payment.order_id
where placed.order_id is null
