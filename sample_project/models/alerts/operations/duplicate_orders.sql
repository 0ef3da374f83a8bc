{{ config(meta={"sentinel": {"shape": "rows", "severity": "info"}}) }}

-- The same customer, twice in the same minute: somebody clicked twice, and pays twice.
select customer_id, ordered_at, count(*) as orders_placed
from {{ ref("orders") }}
group by customer_id, ordered_at
having count(*) > 1
