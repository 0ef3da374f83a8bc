select
    product.id as product_id,
    product.name as product,
    product.category,
    stock.on_hand,
    stock.minimum_on_hand
from {{ ref("raw_stock") }} as stock
inner join {{ ref("raw_products") }} as product on product.id = stock.product_id
