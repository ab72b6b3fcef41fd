"""Files for the broker that cannot be read: what is said of them."""

import errno
import os

import pytest

from mbusd.sinks.connection import _trouble_with_files


@pytest.mark.parametrize(("code", "is_hinted"), [(errno.EACCES, True), (errno.ENOENT, False)])
def test_a_file_that_may_not_be_read_is_one_for_systemd(code: int, is_hinted: bool) -> None:  # noqa: FBT001 - of a table
    why = os.strerror(code)
    hint = "; under systemd use LoadCredential, as mbusd.service shows" if is_hinted else ""
    said = _trouble_with_files(OSError(code, why, "/etc/mbusd/mqtt_password"))
    assert said == f"cannot read /etc/mbusd/mqtt_password: {why}{hint}"
