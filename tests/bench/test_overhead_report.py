import math

import pytest

from bench.overhead import report
from bench.overhead.workloads import Metric, Row, Sample

_CPU = Metric("cpu_us", "us/request", target=75)
_RATE = Metric("per_second", "request/s", 0, more_is_better=True, target=1000)
_ROW = Row(name="plain", about="whole answers", metrics=(_CPU, _RATE), load={"connections": 32})


def _sample(gateway: str, cpu: float, rate: float = 1000.0, errors: int = 0, first_error: str = "") -> Sample:
    return Sample(gateway, "plain", {"cpu_us": cpu, "per_second": rate}, errors=errors, first_error=first_error)


def test_a_gateways_number_is_the_median_of_its_rounds() -> None:
    found = report.medians([_sample("a", 1.0), _sample("b", 7.0), _sample("a", 100.0), _sample("a", 3.0)])
    assert found["a", "plain"]["cpu_us"] == 3.0
    assert found["b", "plain"]["cpu_us"] == 7.0


def test_a_ratio_is_above_one_where_we_are_better_whichever_way_the_number_counts() -> None:
    assert report.ratio(_CPU, ours=20, theirs=60) == 3
    assert report.ratio(_RATE, ours=60, theirs=20) == 3
    assert report.ratio(_CPU, ours=60, theirs=20) == pytest.approx(1 / 3)


def test_a_ratio_with_nothing_on_one_side_is_no_number() -> None:
    assert math.isnan(report.ratio(_CPU, ours=0, theirs=5))


def test_the_added_delay_is_taken_from_the_direct_run_of_the_same_round() -> None:
    def gentle(gateway: str, p50: float, p99: float) -> Sample:
        return Sample(gateway, "gentle", {"first_p50_ms": p50, "first_p99_ms": p99})

    rounds = [gentle("direct", 1.0, 5.0), gentle("a", 1.5, 6.0), gentle("direct", 2.0, 5.0), gentle("a", 4.0, 9.0)]
    added = [one.values for one in report.with_added(rounds) if one.gateway == "a"]
    assert [(one["added_p50_ms"], one["added_p99_ms"]) for one in added] == [(0.5, 1.0), (2.0, 4.0)]


def test_without_a_direct_run_nothing_is_said_of_added_delay() -> None:
    alone = [Sample("a", "gentle", {"first_p50_ms": 1.0})]
    assert report.with_added(alone) == alone


def test_a_rows_table_has_unfavourable_ratios_too_and_marks_smaller_loads() -> None:
    found = report.medians([_sample("standpipe", 40.0), _sample("nginx", 20.0), _sample("litellm", 4000.0, 10.0)])
    small = Row(name="plain", about="whole answers", metrics=(_CPU, _RATE), load={}, slow={"connections": 1})
    text = report.row_table(small, ["standpipe", "nginx", "litellm"], ["litellm"], found, "standpipe")
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines()[2:]}
    assert lines["nginx"] == ["20.0", "1,000", "0.50x", "1.00x"]
    assert lines["litellm~"] == ["4,000.0", "10", "100x", "100x"]


def test_a_gateway_that_was_not_measured_has_no_line() -> None:
    text = report.row_table(_ROW, ["standpipe", "nginx"], [], report.medians([_sample("nginx", 1.0)]), "standpipe")
    assert "standpipe" not in text


def test_each_variant_is_held_against_the_target() -> None:
    found = report.medians([_sample("standpipe", 100.0), _sample("standpipe-asyncio", 75.0, 999.0)])
    text = report.target_table([_ROW], ["standpipe", "standpipe-asyncio"], found)
    cpu, rate = (line.split("  ") for line in text.splitlines()[1:])
    assert [cell.strip() for cell in cpu if cell.strip()][-2:] == ["100.0 MISSED", "75.0 ok"]
    assert [cell.strip() for cell in rate if cell.strip()][-2:] == ["1,000 ok", "999 MISSED"]


def test_wrong_answers_are_told_with_the_first_reason() -> None:
    samples = [_sample("a", 1.0, errors=2, first_error="status 503"), _sample("a", 1.0, errors=1), _sample("b", 1.0)]
    assert report.faults(samples) == "a plain: 3 wrong, 0 unfinished: status 503"


def test_the_stands_own_cost_comes_from_the_direct_run() -> None:
    direct = Sample("direct", "plain", {"per_second": 180000.0, "engine_us": 2.6, "generator_us": 2.7})
    assert report.own_cost([_ROW], report.medians([direct])).splitlines()[1].split() == [
        "plain,", "per", "request", "180,000", "2.60", "2.70",
    ]  # fmt: skip
