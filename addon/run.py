"""The add-on's start: options and the Supervisor's broker become MBUSD_* variables, and the daemon takes over.

A config.yaml in the add-on's own folder (/config here, /addon_configs/…_mbusd outside) is used instead of the options;
it gets the Supervisor's broker where it names none.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from mbusd import config
from mbusd.configuration.strict_yaml import read

STATE = "/data"  # survives updates, and is in backups
TIMEOUT = 10.0  # seconds for its answer
ILL = 2  # exit code of a bad configuration, as of mbusd's own


class NoBroker(Exception):
    """The Supervisor tells of no broker, and why."""


def bus_variables(options: Mapping[str, Any]) -> dict[str, str]:
    """The options as variables. Raises ConfigError where they name no port, or two."""
    ports = [str(options[key]) for key in ("serial_port", "network_port") if options.get(key)]
    if not ports:
        raise config.ConfigError(
            ["options: choose a serial port, or give the network address of the converter; or write a config.yaml"]
        )
    if len(ports) > 1:
        raise config.ConfigError(["options: a serial port and a network address exclude each other; one is a bus"])
    bus = {"NAME": "mbus", "PORT": ports[0]}
    bus |= {key.upper(): str(options[key]) for key in ("baudrate", "discover", "interval") if options.get(key)}
    variables = {f"MBUSD_BUSES__0__{key}": value for key, value in bus.items()}
    return variables | ({"MBUSD_LOG_LEVEL": str(options["log_level"])} if options.get("log_level") else {})


def names_a_broker(path: Path) -> bool:
    """Whether a configuration file says where the broker is. Raises ConfigError where it cannot be read."""
    document = read(path).data
    mqtt = document.get("mqtt") if isinstance(document, dict) else None
    return isinstance(mqtt, dict) and not mqtt.keys().isdisjoint(("host", "hosts"))


def broker_variables(url: str, token: str) -> dict[str, str]:
    """The broker that the Supervisor knows. Raises NoBroker."""
    request = urllib.request.Request(f"{url}/services/mqtt", headers={"Authorization": f"Bearer {token}"})  # noqa: S310 - http
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 - http
            broker = json.load(answer)["data"]
            variables = {"HOST": str(broker["host"]), "PORT": str(broker["port"])}
    except urllib.error.HTTPError as error:
        raise NoBroker(_message(error)) from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise NoBroker(f"the Supervisor gives no answer that can be understood ({error})") from error
    if broker.get("username"):
        variables |= {"USERNAME": str(broker["username"]), "PASSWORD": str(broker.get("password") or "")}
    if broker.get("ssl"):
        variables["TLS"] = "true"
    return {f"MBUSD_MQTT__{key}": value for key, value in variables.items()}


def _message(error: urllib.error.HTTPError) -> str:
    """What the Supervisor says besides the number."""
    try:
        return str(json.load(error)["message"])
    except (OSError, ValueError, LookupError, TypeError):
        return f"the Supervisor answers {error.code}"


def wait_for_broker(url: str, token: str, pause: float) -> dict[str, str]:
    """The broker, as soon as there is one: the broker's add-on may be installed or started after this one."""
    while True:
        try:
            return broker_variables(url, token)
        except NoBroker as why:
            print(f"no broker yet: {why}. Install and start the add-on Mosquitto broker; asked again in {pause:g} s")
            time.sleep(pause)


def prepare(options: Path, file: Path, broker: Callable[[], dict[str, str]]) -> tuple[list[str], dict[str, str]]:
    """Words and variables of the daemon. Raises ConfigError."""
    variables = {"STATE_DIRECTORY": STATE}
    if file.exists():
        print(f"{file} is there: the options are not looked at")
        found = {} if names_a_broker(file) else broker()
        return ["mbusd", "run", "-c", str(file)], variables | found
    variables |= bus_variables(json.loads(options.read_text("utf-8")))
    return ["mbusd", "run"], variables | broker()


def become(words: list[str], variables: dict[str, str]) -> NoReturn:
    """The daemon in the place of this program: signals go to it."""
    sys.stdout.flush()
    os.execvpe(words[0], words, os.environ | variables)  # noqa: S606 - no shell is wanted


def main() -> int:
    """Become the daemon; gives an exit code only where that cannot be."""
    line = argparse.ArgumentParser(description="Starts mbusd in the add-on.")
    line.add_argument("--options", type=Path, default=Path("/data/options.json"), metavar="FILE")
    line.add_argument("--config", type=Path, default=Path("/config/config.yaml"), metavar="FILE")
    line.add_argument("--supervisor", default="http://supervisor", metavar="URL")
    line.add_argument("--pause", type=float, default=30.0, metavar="SECONDS", help="until it is asked again")
    words = line.parse_args()
    token = os.environ.get("SUPERVISOR_TOKEN", "")
    try:
        daemon = prepare(words.options, words.config, lambda: wait_for_broker(words.supervisor, token, words.pause))
    except (config.ConfigError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return ILL
    become(*daemon)


if __name__ == "__main__":
    sys.exit(main())
