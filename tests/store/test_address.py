"""By what runs are called."""

from __future__ import annotations

from labctl.store.address import Address, called, known

PLAIN = Address("base", "base@smoke", 0, "base@smoke seed=0", "aaaa1111", "cccc2222")
POINT = Address("base", "base@smoke", 0, "base@smoke lr=1 seed=0", "aaaa3333", "dddd4444")
OTHER = Address("base", "base@smoke", 1, "base@smoke seed=1", "bbbb5555", "cccc2222")
ALL = {name: address for name, address in zip("pqo", (PLAIN, POINT, OTHER), strict=True)}


def test_a_name_means_all_that_go_by_it() -> None:
    assert called("base", ALL) == called("base@smoke", ALL) == ["p", "q", "o"]
    assert called("base/seed=0", ALL) == ["p", "q"]


def test_a_short_name_means_the_recipe_as_it_is_written_if_that_was_trained() -> None:
    assert called("base@smoke/seed=0", ALL) == ["p"]
    assert called("base@smoke/seed=0", {"q": POINT, "o": OTHER}) == ["q"]


def test_a_whole_name_means_one_even_if_others_go_by_it() -> None:
    assert called("base@smoke seed=0", ALL) == ["p"]
    assert called("base@smoke seed=0", {"q": POINT}) == ["q"]


def test_four_digits_of_a_key_or_group_are_enough() -> None:
    assert called("aaaa", ALL) == ["p", "q"] and called("aaaa3", ALL) == ["q"]
    assert called("cccc", ALL) == ["p", "o"] and called("ccc", ALL) == []


def test_what_can_be_offered() -> None:
    assert known(ALL) == {"base@smoke", "base@smoke/seed=0", "base@smoke/seed=1"}


def test_a_short_name_means_no_run_of_another_preset() -> None:
    plain = Address("base", "base", 0, "base seed=0", "eeee6666", "ffff7777")
    assert called("base/seed=0", ALL | {"r": plain}) == ["r"]
    assert called("base", ALL | {"r": plain}) == ["p", "q", "o", "r"]
