"""Asks meters for alarms (REQ_UD1) between their read-outs.

A meter that does not answer here is not called silent: that is for its read-outs to tell.
"""

import asyncio
import logging
import time

from mbusd import clock
from mbusd.line.bus import Bus
from mbusd.line.transport import RateError, TransportError
from mbusd.mbus.alarms import AlarmAnswer, ask_alarm
from mbusd.mbus.errors import MBusError, WrongMeter
from mbusd.mbus.link import Conversation, in_manner
from mbusd.model import Alarm, AlarmTaken, Emit
from mbusd.normalise import alarm_of
from mbusd.polling.health import Health
from mbusd.polling.meter import Meter

log = logging.getLogger(__name__)


class Vigil:
    """Requests for alarms on one bus; tells `emit` what each meter has answered."""

    def __init__(self, bus: Bus, health: Health, emit: Emit) -> None:
        self._bus = bus
        self._health = health
        self._emit = emit

    async def ask(self, meter: Meter) -> None:
        """Ask a meter for alarms, whatever comes of it. While the port is lost the meter stays due."""
        if meter.alarms is None or meter.name is None:
            return
        if meter.refusal(time.time()) is not None:
            await asyncio.sleep(0)
            return
        try:
            answer = await self._bus.run(_when_it_is_our_turn(meter))
            stranger = None if answer.telegram is None else meter.stranger(answer.telegram)
            if stranger is not None:
                raise WrongMeter(meter.label, str(stranger))
        except RateError as error:
            _failed(meter, error)
        except TransportError:
            await asyncio.sleep(0)
        except MBusError as error:
            meter.link = meter.link.forgotten()
            _failed(meter, error)
        else:
            meter.link = answer.link
            meter.alarms.succeeded(time.monotonic())
            self._health.answered()
            self._take(meter, alarm_of(meter.name, answer, clock.now(), meter.zone, meter.identity))

    def _take(self, meter: Meter, alarm: Alarm) -> None:
        """News is what differs from before; a meter that was never asked is taken to have had nothing to say."""
        before = Alarm(alarm.meter, alarm.taken_at) if meter.alarm is None else meter.alarm
        is_news = (alarm.code, alarm.measurements) != (before.code, before.measurements)
        meter.alarm = alarm
        if is_news:
            log.info("%s: %s", meter.label, "an alarm is raised" if alarm.is_raised else "no alarm any more")
        self._emit(AlarmTaken(alarm, meter.identity, is_news))


def _when_it_is_our_turn(meter: Meter) -> Conversation[AlarmAnswer]:
    """The request, with the link as it is when the wire is ours: until then somebody else may speak to the meter."""
    meter.spend(time.time())
    recipe, link = meter.recipe, meter.link
    meter.link = link.forgotten()
    return (yield from in_manner(ask_alarm(meter.settings.address, recipe, link), recipe.manner))


def _failed(meter: Meter, error: Exception) -> None:
    if meter.alarms is None:
        return
    meter.alarms.failed(time.monotonic())
    failures = meter.alarms.failures
    level = logging.INFO if failures & failures - 1 == 0 else logging.DEBUG
    log.log(level, "%s: no answer about alarms, %d in a row: %s", meter.label, failures, error)
