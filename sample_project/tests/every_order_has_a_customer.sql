select placed.order_id
from {{ ref("stg_orders") }} as placed
left join
    {{ ref("stg_customers") }} as customer on customer.customer_id = placed.customer_id
where customer.customer_id is null
