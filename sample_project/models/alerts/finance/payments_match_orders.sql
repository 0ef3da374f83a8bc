-- Payments of another amount than their order. Every row is a violation.
select placed.order_id, placed.total, sum(payment.amount) as paid
from {{ ref("orders") }} as placed
inner join {{ ref("stg_payments") }} as payment on payment.order_id = placed.order_id
group by placed.order_id, placed.total
having abs(sum(payment.amount) - placed.total) >= 0.01
