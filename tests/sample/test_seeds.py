"""The shipped data is what make_seeds.py says, and small."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

FILES = sorted(
    str(path.relative_to(folder))
    for folder in [Path(__file__).parents[2] / "sample_project"]
    for path in [*folder.glob("seeds/*.csv"), *folder.glob("late/*.csv")]
)


def test_the_script_writes_the_committed_files_and_no_others(make_seeds: ModuleType) -> None:
    assert sorted(make_seeds.make()) == FILES


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_reproduced_byte_for_byte(
    make_seeds: ModuleType, sample: Path, tmp_path: Path, name: str
) -> None:
    make_seeds.write(tmp_path)
    assert (tmp_path / name).read_bytes() == (sample / name).read_bytes()


def test_the_data_is_small(sample: Path) -> None:
    assert sum((sample / name).stat().st_size for name in FILES) < 400_000


def test_the_late_payments_are_yesterdays_and_not_in_the_seed(make_seeds: ModuleType) -> None:
    files = make_seeds.make()
    late, seed = files["late/card_payments.csv"], files["seeds/raw_payments.csv"]
    assert late[0] == seed[0]
    assert {(row[2], row[4]) for row in late[1:]} == {("card", 1)}
    assert not [row for row in seed[1:] if row[2] == "card" and row[4] == 1]
    assert not {row[0] for row in late[1:]} & {row[0] for row in seed[1:]}
