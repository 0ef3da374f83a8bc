"""Write the shop's data: seeds/*.csv, and late/card_payments.csv that arrives after the fact.

The same bytes come out every time. No date is written anywhere: rows say how many days ago
something happened, and the staging models count back from the day of the build, so the data never
goes stale.

Only `Random.random()` is drawn from, because Python promises to keep that sequence across versions.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import TypeVar

T = TypeVar("T")
Row = tuple[object, ...]

DAYS = 56
# Orders a day, by day of a seven-day rhythm, so that a day resembles the one a week before.
RHYTHM = (27, 31, 29, 33, 38, 43, 24)
# Code, name, days after which an order is promised to have left the warehouse.
REGIONS = (("N", "north", 2), ("E", "east", 2), ("S", "south", 3), ("W", "west", 3))
STRIKE_DAYS = 9  # for so long the carrier in the west has been late
CATALOGUE = (
    ("House Blend", "coffee", 1190),
    ("Dark Roast", "coffee", 1290),
    ("Light Roast", "coffee", 1350),
    ("Decaf", "coffee", 1250),
    ("Espresso", "coffee", 1390),
    ("Single Origin Ethiopia", "coffee", 1690),
    ("Single Origin Peru", "coffee", 1590),
    ("Cold Brew Pack", "coffee", 1850),
    ("Breakfast Tea", "tea", 690),
    ("Earl Grey", "tea", 720),
    ("Green Sencha", "tea", 890),
    ("Oolong", "tea", 1090),
    ("Chamomile", "tea", 650),
    ("Rooibos", "tea", 680),
    ("Mug", "kitchen", 990),
    ("Kettle", "kitchen", 4490),
    ("Hand Grinder", "kitchen", 3890),
    ("French Press", "kitchen", 2990),
    ("Filter Papers", "kitchen", 490),
    ("Scale", "kitchen", 2790),
)
RUNNING_LOW = {"Espresso": 6, "Filter Papers": 11}  # on hand, below their minimum
FIRST = ("Ada", "Ben", "Chloe", "Dev", "Elif", "Femi", "Gita", "Hugo", "Ines", "Jun", "Kofi")
LAST = ("Abara", "Berg", "Costa", "Diaz", "Evans", "Faye", "Gupta", "Haas", "Ito", "Jansen", "Kim")
CUSTOMERS = 320
NEVER_PAID = (401, 873)  # orders by hand that nobody ever paid
ORPHANS = 4  # payments whose order does not exist


def make(seed: int = 20) -> dict[str, list[Row]]:
    """All files as {path: rows}, the first row being the header."""
    rng = Random(seed)  # noqa: S311 - sample data, not a secret

    def whole(low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(rng.random() * (high - low + 1))

    def pick(values: Sequence[T]) -> T:
        return values[whole(0, len(values) - 1)]

    customers: list[Row] = [
        (i, f"{pick(FIRST)} {pick(LAST)}", pick(REGIONS)[0], whole(DAYS, 720))
        for i in range(1, CUSTOMERS + 1)
    ]
    orders: list[Row] = []
    items: list[Row] = []
    payments: list[Row] = []
    late: list[Row] = []
    refunds: list[Row] = []
    promise = {code: days for code, _, days in REGIONS}

    for days_ago in range(DAYS, 0, -1):
        seen: set[tuple[object, int]] = set()
        count = RHYTHM[days_ago % 7] + whole(-2, 2)
        for minute in sorted(whole(6 * 60, 23 * 60) for _ in range(count)):
            customer = pick(customers)
            while (customer[0], minute) in seen:
                customer = pick(customers)
            seen.add((customer[0], minute))
            order_id = len(orders) + 1
            region = str(customer[2])

            lines = [(pick(CATALOGUE), whole(1, 3)) for _ in range(pick((1, 1, 2, 2, 3)))]
            for (name, _, price), quantity in lines:
                product_id = [product[0] for product in CATALOGUE].index(name) + 1
                items.append((len(items) + 1, order_id, product_id, quantity, price))
            total = sum(price * quantity for (_, _, price), quantity in lines)

            takes = pick((0, 1, 1, 1, 2))
            is_struck = region == "W" and days_ago <= STRIKE_DAYS + promise[region]
            if rng.random() < (0.55 if is_struck else 0.03):
                takes = promise[region] + pick((1, 2, 3))
            shipped = days_ago - takes if days_ago > takes else ""  # else it is still open
            orders.append((order_id, customer[0], days_ago, minute, shipped))

            method = pick(("card", "card", "card", "wallet", "invoice"))
            paid = (order_id, method, total, days_ago, min(minute + whole(0, 9), 24 * 60 - 1))
            if order_id not in NEVER_PAID:
                # Yesterday's file of the card processor is late: that is the story of the demo.
                (late if method == "card" and days_ago == 1 else payments).append(paid)
            if rng.random() < 0.03 and days_ago > 3 and order_id not in NEVER_PAID:
                refunds.append((len(refunds) + 1, order_id, total, days_ago - whole(1, 3)))

    payments.extend(
        (90_001 + n, "wallet", pick(CATALOGUE)[2], whole(2, 5), whole(600, 1200))
        for n in range(ORPHANS)
    )

    stock: list[Row] = []
    for product_id, (name, _, price) in enumerate(CATALOGUE, start=1):
        minimum = 10 if price > 2000 else 20
        stock.append((product_id, RUNNING_LOW.get(name, minimum + whole(5, 90)), minimum))

    def numbered(rows: list[Row], start: int) -> list[Row]:
        return [(start + n, *row) for n, row in enumerate(rows)]

    payment_columns = ("id", "order_id", "method", "amount_cents", "paid_days_ago", "paid_minute")
    return {
        "seeds/raw_regions.csv": [("code", "name", "promised_days"), *REGIONS],
        "seeds/raw_customers.csv": [
            ("id", "name", "region_code", "signed_up_days_ago"),
            *customers,
        ],
        "seeds/raw_products.csv": [
            ("id", "name", "category", "price_cents"),
            *numbered(list(CATALOGUE), 1),
        ],
        "seeds/raw_stock.csv": [("product_id", "on_hand", "minimum_on_hand"), *stock],
        "seeds/raw_orders.csv": [
            ("id", "customer_id", "ordered_days_ago", "ordered_minute", "shipped_days_ago"),
            *orders,
        ],
        "seeds/raw_order_items.csv": [
            ("id", "order_id", "product_id", "quantity", "unit_price_cents"),
            *items,
        ],
        "seeds/raw_payments.csv": [payment_columns, *numbered(payments, 1)],
        "seeds/raw_refunds.csv": [
            ("id", "order_id", "amount_cents", "refunded_days_ago"),
            *refunds,
        ],
        "late/card_payments.csv": [payment_columns, *numbered(late, len(payments) + 1)],
    }


def write(folder: Path) -> None:
    for path, rows in make().items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    write(parser.parse_args().folder)
