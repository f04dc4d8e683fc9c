"""Kafka's jars: which, and how they come here.

`python -m deploy.local.jars fetch` downloads what kafka_jars.lock names into .local/kafka/, once;
`python -m deploy.local.jars lock` resolves them anew and writes the lock.
Needs nothing but jgo, so that it can run while the rest of the environment is still being installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from jgo.env import EnvironmentBuilder, LinkStrategy
from jgo.maven import MavenContext

KAFKA_VERSION = "4.1.2"
ROOTS = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.slf4j:slf4j-simple:1.7.36")

PROJECT = Path(__file__).resolve().parents[2]
LOCK = Path(__file__).with_name("kafka_jars.lock")
CACHE = PROJECT / ".local" / "kafka"

THREADS = 8
"""More were no faster: 46 jars in 7 to 12 seconds with 8, 16 and 24."""
ATTEMPTS = 4


class WrongJar(Exception):
    """What came is not what was locked."""


@dataclass(frozen=True, kw_only=True)
class Jar:
    """One jar of the lock: `group:artifact:version sha256:…`."""

    group: str
    artifact: str
    version: str
    sha256: str
    packaging: str = "jar"
    classifier: str = ""

    @classmethod
    def parse(cls, line: str) -> Jar:
        name, digest = line.split()
        group, artifact, version = name.split(":")
        return cls(group=group, artifact=artifact, version=version, sha256=digest.removeprefix("sha256:"))

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version} sha256:{self.sha256}"


def locked() -> list[Jar]:
    lines = LOCK.read_text().splitlines()
    return [Jar.parse(line) for line in lines if line and not line.startswith("#")]


def folder() -> Path:
    """Where the locked jars are, or will be: another lock, another folder."""
    return CACHE / f"{KAFKA_VERSION}-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"


def fetch() -> Path:
    """The folder with every jar of the lock, verified; downloads them where that was not done before."""

    def downloaded(into: Path) -> None:
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(lambda jar: download(jar, into=into), locked()))

    return made_once(folder(), downloaded)


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, which `make` fills where that was not done before.

    It appears under its name only when it is complete.  A second caller waits for the first.
    """
    if folder.exists():
        return folder
    beside = folder.parent
    beside.mkdir(parents=True, exist_ok=True)
    with (beside / "fetch.lock").open("w") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        for unfinished in beside.glob("unfinished-*"):
            shutil.rmtree(unfinished)
        if not folder.exists():
            complete = Path(tempfile.mkdtemp(prefix="unfinished-", dir=beside))
            try:
                make(complete)
                complete.rename(folder)
            finally:
                shutil.rmtree(complete, ignore_errors=True)
    return folder


def download(jar: Jar, *, into: Path) -> Path:
    """The file, in the folder `into`.  Raises WrongJar where it is not what was locked."""
    attempt = 0
    while True:
        attempt += 1
        # A repository of its own for each attempt: jgo takes a file that an interrupted download left for the jar.
        with tempfile.TemporaryDirectory(dir=into) as repository:
            context = MavenContext(repo_cache=Path(repository), timeout=30)
            try:
                component = context.project(jar.group, jar.artifact).at_version(jar.version)
                file: Path = component.artifact(jar.classifier, jar.packaging).resolve()
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                if digest != jar.sha256:
                    raise WrongJar(f"{jar.group}:{jar.artifact}:{jar.version} came with sha256:{digest}, not {jar}")
                return file.rename(into / file.name)
            except Exception as problem:  # jgo raises whatever its HTTP library does
                if attempt == ATTEMPTS:
                    raise
                logging.getLogger(__name__).warning("%s: %s; once more", jar, problem)
                time.sleep(attempt)


def lock() -> None:
    """Resolve ROOTS with all they need, and write what was found."""
    with tempfile.TemporaryDirectory() as scratch:
        builder = EnvironmentBuilder(
            context=MavenContext(repo_cache=Path(scratch) / "repository", timeout=30),
            link_strategy=LinkStrategy.COPY,
            cache_dir=Path(scratch) / "environments",
        )
        builder.from_endpoint("+".join(ROOTS))
        (found,) = Path(scratch).rglob("jgo.lock.toml")
        jars = [
            Jar(group=entry["groupId"], artifact=entry["artifactId"], version=entry["version"], sha256=entry["sha256"])
            for entry in tomllib.loads(found.read_text())["dependencies"]
        ]
    head = f"# Kafka {KAFKA_VERSION} and what it needs; written by `python -m deploy.local.jars lock`.\n"
    LOCK.write_text(head + "".join(f"{jar}\n" for jar in sorted(jars, key=str)))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["fetch"]:
            fetch()
        case ["lock"]:
            lock()
        case _:
            sys.exit(__doc__)
