{{
    config(
        meta={
            "sentinel": {
                "shape": "rows",
                "warn_if": ">5",
                "error_if": ">25",
            }
        }
    )
}}

-- Orders that nobody paid within three days. A few are normal; many mean a broken
-- import.
select placed.order_id, placed.customer_id, placed.ordered_on, placed.total
from {{ ref("orders") }} as placed
left join {{ ref("stg_payments") }} as payment on payment.order_id = placed.order_id
where
    payment.order_id is null
    and placed.ordered_on < {{ add_days(to_date(sentinel.as_of()), -3) }}
