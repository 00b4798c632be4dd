from bench.overhead.accounting import descendants, parse_stat, use

_FIELDS = "S 41 42 42 0 -1 4194304 100 0 0 0 350 125 9 9 20 0 1 0 100 1000000 250"


def test_a_stat_line_gives_the_parent_and_user_plus_system_ticks() -> None:
    stat = parse_stat(f"42 (server) {_FIELDS}")
    assert (stat.parent, stat.ticks) == (41, 475)


def test_a_command_name_with_spaces_and_parentheses_does_not_shift_the_fields() -> None:
    assert parse_stat(f"42 (a) b (c) {_FIELDS}") == parse_stat(f"42 (server) {_FIELDS}")


def test_descendants_are_found_through_any_number_of_parents_in_any_order() -> None:
    parents = {9: 8, 8: 7, 7: 1, 5: 1, 1: 0}
    assert descendants(7, parents) == {7, 8, 9}
    assert descendants(5, parents) == {5}


def test_a_process_that_is_gone_has_used_nothing() -> None:
    gone = use(2**22 + 1)  # above the highest process id there can be
    assert (gone.cpu, gone.rss) == (0, 0)
