{{ config(meta={"sentinel": {"shape": "rows", "dimensions": ["product"]}}) }}

-- Every row is a violation, and `dimensions` gives each product a state of its own:
-- it fires when
-- its row appears, and resolves when its row is gone.
select product, category, on_hand, minimum_on_hand
from {{ ref("stock_levels") }}
where on_hand < minimum_on_hand
