"""Makes .venv from the locked requirements, and fetches Kafka's jars meanwhile: `python deploy/bootstrap.py demo`.

Runs on a bare Python, so it knows the standard library only.  A second run sees what the first did and ends at once.

    .local/uv/                  a uv of our own, where none that is new enough is on the PATH
    .venv/                      the environment; .venv/.installed/ holds copies of what it was installed from
    .local/kafka/               the jars
"""

# ruff: noqa: S603 - all commands are ours

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
LOCAL = PROJECT / ".local"
ENVIRONMENT = PROJECT / ".venv"
INSTALLED = ENVIRONMENT / ".installed"
REQUIREMENTS = PROJECT / "requirements"
CONTAINS = {"demo": ("demo", "dev"), "dev": ("dev",)}
"""Which sets each set is a part of."""
OLDEST_UV = (0, 9)
Command = list[str | Path]
CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")


class CannotSetUp(Exception):
    """The message says what is missing and what would help."""


def main() -> None:
    match sys.argv[1:]:
        case [("demo" | "dev") as wanted]:
            set_up(wanted)
        case ["uv"]:
            with alone():
                print(uv())
        case _:
            sys.exit(__doc__)


def set_up(wanted: str) -> None:
    agree_on_certificates()
    with alone():
        if is_set_up(wanted):
            return
        began = time.monotonic()
        tool = uv()
        if not environment_works():
            say("making .venv")
            run([tool, "venv", "--quiet", "--clear", "--python", sys.executable, ENVIRONMENT])
        install: Command = [tool, "pip", "install", "--quiet", "--python", ENVIRONMENT / "bin" / "python"]
        run([*install, "--require-hashes", "-r", REQUIREMENTS / "jars.txt"])
        jars = subprocess.Popen(  # while the rest is being installed
            [ENVIRONMENT / "bin" / "python", "-m", "deploy.local.jars", "fetch"],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            say(f"installing the locked environment ({wanted}) and Kafka; the first time this takes a minute")
            run([*install, "--require-hashes", "--compile-bytecode", "-r", REQUIREMENTS / f"{wanted}.txt"])
            run([*install, "--no-deps", "--build-constraints", REQUIREMENTS / "build.txt", "--editable", PROJECT])
            output, _ = jars.communicate()
        finally:
            jars.kill()
        if jars.returncode != 0:
            raise CannotSetUp(f"Kafka's jars could not be fetched:\n{output}")
        remember(wanted)
        say(f"set up in {time.monotonic() - began:.0f} s")


@contextmanager
def alone() -> Iterator[None]:
    """Two of us at once, say `make test` beside `make demo`, take turns."""
    LOCAL.mkdir(exist_ok=True)
    with (LOCAL / "bootstrap.lock").open("w") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        yield


def agree_on_certificates() -> None:
    """One name of the TLS certificates will do: uv reads the first, requests the second, pip the last."""
    given = next((os.environ[name] for name in CERTIFICATES if os.environ.get(name)), None)
    if given:
        for name in CERTIFICATES:
            os.environ.setdefault(name, given)


def uv() -> str:
    """The uv on the PATH where it is new enough, else one of our own."""
    found = shutil.which("uv")
    if found and version_of(found) >= OLDEST_UV:
        return found
    ours = LOCAL / "uv" / "bin" / "uv"
    lock = REQUIREMENTS / "uv.txt"
    stamp = LOCAL / "uv" / "installed.txt"
    if not (ours.exists() and same(stamp, lock) and version_of(str(ours)) >= OLDEST_UV):
        say("fetching uv into .local/uv")
        shutil.rmtree(LOCAL / "uv", ignore_errors=True)
        make_environment_for_uv()
        pip: Command = [
            LOCAL / "uv" / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        run([*pip, "--require-hashes", "-r", lock])
        shutil.copyfile(lock, stamp)
    return str(ours)


def make_environment_for_uv() -> None:
    try:
        import ensurepip  # noqa: F401, PLC0415 - Debian's Python comes without
        import venv  # noqa: F401, PLC0415
    except ImportError:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        raise CannotSetUp(
            f"{sys.executable} has no venv and ensurepip.  On Debian or Ubuntu: apt-get install {package}"
            "; or install uv, and put it on the PATH."
        ) from None
    run([sys.executable, "-m", "venv", LOCAL / "uv"])


def version_of(tool: str) -> tuple[int, ...]:
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"(\d+)\.(\d+)", done.stdout)
    return tuple(int(part) for part in found.groups()) if found else (0,)


def environment_works() -> bool:
    """False also where the folder was moved or its Python was removed."""
    python = ENVIRONMENT / "bin" / "python"
    place = INSTALLED / "place"
    if place.exists() and place.read_text() != str(PROJECT):
        return False
    fits = "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))"
    return python.exists() and subprocess.run([python, "-c", fits], check=False).returncode == 0


def is_set_up(wanted: str) -> bool:
    return (
        environment_works()
        and same(INSTALLED / "pyproject.toml", PROJECT / "pyproject.toml")
        and same(INSTALLED / "kafka_jars.lock", PROJECT / "deploy" / "local" / "kafka_jars.lock")
        and any(same(INSTALLED / f"{name}.txt", REQUIREMENTS / f"{name}.txt") for name in CONTAINS[wanted])
        and any((LOCAL / "kafka").glob("*/kafka_*.jar"))
    )


def remember(wanted: str) -> None:
    INSTALLED.mkdir(exist_ok=True)
    shutil.copyfile(PROJECT / "pyproject.toml", INSTALLED / "pyproject.toml")
    shutil.copyfile(PROJECT / "deploy" / "local" / "kafka_jars.lock", INSTALLED / "kafka_jars.lock")
    (INSTALLED / "place").write_text(str(PROJECT))
    shutil.copyfile(REQUIREMENTS / f"{wanted}.txt", INSTALLED / f"{wanted}.txt")  # last: it says that all is done


def same(one: Path, other: Path) -> bool:
    return one.exists() and one.read_bytes() == other.read_bytes()


def run(command: Command) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    environment.setdefault("UV_HTTP_TIMEOUT", "120")
    done = subprocess.run(command, cwd=PROJECT, env=environment, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise CannotSetUp(f"this failed with status {done.returncode}: {' '.join(str(part) for part in command)}")


def say(what: str) -> None:
    print(f"[set-up] {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except CannotSetUp as problem:
        sys.exit(f"[set-up] {problem}")
    except KeyboardInterrupt:
        sys.exit(130)
