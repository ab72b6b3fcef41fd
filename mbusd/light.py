"""Dataclasses that share their methods: a daemon has two hundred, and carries what each is made of for years.

The standard one compiles six functions for each class; and where it is frozen and has slots, two of them keep alive the
class without slots that it was made from. Here a class has an `__init__` of its own, and of the rest what differs.
"""

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

Values = Callable[[object], Any]
"""What there is to compare of an object."""

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool = False, slots: bool = False, eq: bool = True) -> Callable[[type], type]:
        """What is used here of the standard one's options."""

        def made(written: type) -> type:
            written.__doc__ = written.__doc__ or written.__name__  # or its signature would be looked up for it
            cls = dataclasses.dataclass(written, repr=False, eq=False, frozen=frozen, slots=slots)
            cls.__repr__ = _told
            if frozen:
                cls.__setattr__ = cls.__delattr__ = _refused
            if eq:
                values = _values_of(cls)
                cls.__eq__ = _equality(values)
                cls.__hash__ = _hash(values) if frozen else None
            return cls

        return made


def _told(self: Any) -> str:
    shown = (one.name for one in dataclasses.fields(self) if one.repr)
    return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


def _refused(_self: object, name: str, _value: object = None) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _values_of(cls: Any) -> Values:
    names = [one.name for one in dataclasses.fields(cls) if one.compare]
    return attrgetter(*names) if len(names) > 1 else lambda self: tuple(getattr(self, name) for name in names)


def _equality(values: Values) -> Callable[[object, object], bool]:
    def equal(self: object, other: object) -> bool:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    return equal


def _hash(values: Values) -> Callable[[object], int]:
    def hashed(self: object) -> int:
        return hash(values(self))

    return hashed
