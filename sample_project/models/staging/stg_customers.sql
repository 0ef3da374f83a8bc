select
    customer.id as customer_id,
    customer.name as customer_name,
    region.name as region,
    region.promised_days,
    {{ add_days("shop_today.today", "-1 * customer.signed_up_days_ago") }}
    as signed_up_on
from {{ ref("raw_customers") }} as customer
inner join {{ ref("raw_regions") }} as region on region.code = customer.region_code
cross join {{ ref("shop_today") }} as shop_today
