with
    paid as (
        select paid_on, count(*) as payments, sum(amount) as revenue
        from {{ ref("stg_payments") }}
        group by paid_on
    ),

    refunded as (
        select refunded_on, sum(amount) as refunds
        from {{ ref("stg_refunds") }}
        group by refunded_on
    )

select
    paid.paid_on as revenue_date,
    paid.payments,
    paid.revenue,
    coalesce(refunded.refunds, 0) as refunds
from paid
left join refunded on refunded.refunded_on = paid.paid_on
