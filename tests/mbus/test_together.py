"""Whether the meters that are known account for all that was heard when they spoke at once."""

from collections.abc import Sequence
from random import Random

from mbusd.mbus.address import SELECTED, SecondaryAddress
from mbusd.mbus.frames import LongFrame, encode
from mbusd.mbus.probe import Meter
from mbusd.mbus.telegram import decode
from mbusd.mbus.together import accounts_for, shows_another
from mbusd.simulation.simulator import identity
from mbusd.simulation.superposition import superpose

CHANCE = Random(5)  # noqa: S311 - simulates, keeps no secret


def sent(address: SecondaryAddress, access: int, values: bytes) -> Meter:
    records = b"".join(b"\x04\x06" + values[at : at + 4] for at in range(0, len(values), 4))
    return Meter(decode(LongFrame(8, SELECTED, 0x72, address.to_bytes() + bytes([access, 0, 0, 0]) + records)), address)


def worn(number: int, values: int = 24) -> Meter:
    address = identity(f"{number:08}", "KAM", 9, 4)
    return sent(address, CHANCE.randrange(256), CHANCE.randbytes(values))


def heard_of(meters: Sequence[Meter], offset: int = 0) -> bytes:
    return superpose((offset * index, encode(meter.telegram.frame)) for index, meter in enumerate(meters))


def test_two_account_for_what_two_sent() -> None:
    one, two, *others = [worn(11111111 * number) for number in range(1, 9)]
    assert accounts_for([one, two], heard_of([one, two]), others)


def test_the_access_number_may_have_gone_on() -> None:
    one, two, *others = [worn(11111111 * number) for number in range(1, 9)]
    assert one.address is not None
    data = one.telegram.frame.data
    values = b"".join(data[at + 2 : at + 6] for at in range(12, len(data), 6))
    later = sent(one.address, data[8] + 1 & 0xFF, values)
    assert accounts_for([one, two], heard_of([later, two]), others)


def test_a_third_shows() -> None:
    for _ in range(50):
        one, two, third, *others = [worn(11111111 * number) for number in range(1, 10)]
        assert not accounts_for([one, two], heard_of([one, two, third]), others)


def test_nothing_follows_where_meters_send_the_same() -> None:
    """All new: a third one would not show, so nothing is concluded from what two send."""
    one, two, *others = [sent(identity(f"1234567{number}", "KAM", 9, 4), 1, bytes(24)) for number in range(9)]
    assert not accounts_for([one, two], heard_of([one, two]), others)


def test_nothing_follows_of_answers_that_are_out_of_step() -> None:
    one, two, *others = [worn(11111111 * number) for number in range(1, 9)]
    assert not accounts_for([one, two], heard_of([one, two], offset=7), others)


def test_one_more_than_are_known_shows_and_nobody_shows_where_all_are_known() -> None:
    for _ in range(50):
        one, two, third = [worn(11111111 * number) for number in range(1, 4)]
        assert shows_another([one, two], heard_of([one, two, third]))
        assert not shows_another([one, two], heard_of([one, two]))
        assert not shows_another([one, two], heard_of([one, two, third], offset=7))  # who knows


def test_one_more_shows_by_its_manufacturer_where_all_values_are_zero() -> None:
    alike = [sent(identity("12345678", *kind), 1, bytes(24)) for kind in (("KAM", 9, 4), ("KAM", 11, 4), ("ELS", 9, 4))]
    assert shows_another(alike[:2], heard_of(alike))
    assert not accounts_for(alike[:2], heard_of(alike), [worn(11111111 * number) for number in range(1, 8)])


def test_few_witnesses_prove_nothing() -> None:
    one, two, *others = [worn(11111111 * number) for number in range(1, 6)]
    assert not accounts_for([one, two], heard_of([one, two]), others)
