"""How often a meter is read, as the configuration says it: cron lines, activity, budgets, and what does not fit."""

import json

import pytest
from pydantic import ValidationError

from mbusd.config import public
from mbusd.configuration.pace_settings import ActiveSettings
from mbusd.configuration.settings import BusSettings, MeterSettings, Settings


def bus(meter: dict[str, object], **more: object) -> BusSettings:
    return BusSettings.model_validate(
        {"name": "cellar", "port": "/dev/x", "meters": [{"address": 1, "name": "flat", **meter}], **more}
    )


def meter(**values: object) -> MeterSettings:
    return bus(values).meters[0]


def refusal(meter: dict[str, object], **more: object) -> str:
    with pytest.raises(ValidationError) as caught:
        bus(meter, **more)
    (error,) = caught.value.errors()
    return error["msg"].removeprefix("Value error, ")


def test_an_interval_may_be_a_cron_line() -> None:
    assert meter(interval="0  0 * * *").interval == "0 0 * * *"
    assert meter(interval="*/15 6-22 * * mon-fri").interval == "*/15 6-22 * * mon-fri"
    assert bus({}, interval="0 0 1 * *").interval == "0 0 1 * *"
    assert meter(interval="5 min").interval == 300


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0 0 30 2 *", "the cron line '0 0 30 2 *' never fires: none of its months has that day"),
        ("0 0 * *", "'0 0 * *' is no cron line: five fields are"),
        ("0 25 * * *", "is no cron line: bad hour"),
        ("sometimes", "or 'manual'; or a cron line, '0 0 * * *'"),
        ("1h 30m", "'1h 30m' is no duration"),
    ],
)
def test_an_interval_that_is_none_is_refused_with_the_reason(text: str, why: str) -> None:
    assert why in refusal({"interval": text})
    assert why in refusal({}, interval=text)


def test_the_settings_that_are_published_have_the_line_and_the_condition() -> None:
    settings = Settings(
        buses=(bus({"interval": "0 0 * * *", "active": {"when": "power > 0", "interval": "10s"}}),),
    )
    shown = public(settings)["buses"][0]["meters"][0]
    assert (shown["interval"], shown["active"]) == ("0 0 * * *", {"when": "power > 0", "interval": 10.0})
    assert "manual" in json.dumps(Settings.model_json_schema())


def test_a_meter_may_be_quick_while_it_works() -> None:
    active = meter(active={"when": "power > 0 and energy != 0", "interval": "10s"}).active
    assert active == ActiveSettings(when="power > 0 and energy != 0", interval=10)


@pytest.mark.parametrize(
    ("active", "why"),
    [
        ({"when": "power", "interval": 10}, "'power' is no comparison"),
        ({"when": 5, "interval": 10}, "'5' is no condition: `power > 0` is"),
        ({"when": "power > 0"}, "Field required"),
        ({"when": "power > 0", "interval": "manual"}, "'manual' is no duration"),
        ({"when": "power > 0", "interval": "1h"}, "meter flat: active.interval 3600s is not quicker than"),
        ("power > 0", "valid dictionary"),
    ],
)
def test_an_activity_that_is_none_is_refused(active: object, why: str) -> None:
    assert why in refusal({"active": active})


@pytest.mark.parametrize(
    "fits",
    [
        {"interval": "1h", "max_reads_per_day": 24},
        {"interval": "manual", "max_reads_per_day": 1},
        {"interval": "0 0 * * *", "max_reads_per_day": 1},
        {"interval": "0 * * * *", "max_reads_per_day": 24},
        {"interval": "1h", "alarms": "2h", "max_reads_per_day": 36},
        {"interval": "1h", "active": {"when": "power > 0", "interval": "10s"}, "max_reads_per_day": 24},
        {"interval": "7d", "max_reads_per_day": 1},
    ],
)
def test_a_schedule_within_the_budget(fits: dict[str, object]) -> None:
    assert meter(**fits).max_reads_per_day == fits["max_reads_per_day"]


@pytest.mark.parametrize(
    ("greedy", "why"),
    [
        ({"interval": "1h", "max_reads_per_day": 5}, "meter flat: interval 3600s asks the meter 24 times a day, but"),
        ({"max_reads_per_day": 5}, "max_reads_per_day is 5"),
        ({"interval": "*/5 * * * *", "max_reads_per_day": 100}, "interval '*/5 * * * *' asks the meter 288 times"),
        ({"interval": "1h", "alarms": "10m", "max_reads_per_day": 24}, "and alarms every 600s asks the meter 168"),
        ({"interval": "manual", "alarms": "1h", "max_reads_per_day": 10}, "asks the meter 24 times a day"),
        ({"max_reads_per_day": 0}, "greater than or equal to 1"),
    ],
)
def test_a_schedule_beyond_the_budget_is_refused(greedy: dict[str, object], why: str) -> None:
    assert why in refusal(greedy)
