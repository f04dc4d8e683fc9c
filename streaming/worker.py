"""Reads the settings, builds the parts, starts Faust: the only place that does.

Faust is what it is good at: app, agent, web, signals.  Its own Kafka client is off; a service of ours owns the consumer's
and the producer's threads, and hands batches to the agent over a channel.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import tempfile
import time
from typing import Any

import faust
import uvloop
from faust.app.base import BootStrategy
from faust.web import drivers as web_drivers
from prometheus_client import exposition

from features.redis_store import RedisProfiles
from features.settings import unknown
from schemas import masking
from schemas.errors import WrongSettings
from streaming.agents import Desk
from streaming.committed import CommittedInKafka
from streaming.following import Following
from streaming.intake import Intake, Polled
from streaming.leaving import SLOW_STOP, WRONG_USE, leave, leave_after
from streaming.logs import write_log
from streaming.memory import Memory
from streaming.metrics import Metrics
from streaming.outbox import Outbox
from streaming.scoring import Panel
from streaming.settings import WorkerSettings
from streaming.slot import Slot
from streaming.takeover import Takeover

log = logging.getLogger(__name__)

STOP_WITHIN = 9.0
"""Seconds for a stop; nothing else bounds a transactional call without a broker."""
FINISH_WITHIN = 7.0
STUCK_AFTER = 30.0
"""Seconds without progress, while messages wait, after which the worker calls itself unhealthy."""


class _Boot(BootStrategy):
    enable_kafka = False


class _App(faust.App):
    BootStrategy = _Boot
    worker: Worker

    def _new_web(self) -> Any:
        """Our own pages and no more: Faust's would tell anybody of its tables and partitions."""
        kind = web_drivers.by_url(self.conf.web)
        of_faust = ("default_blueprints", "production_blueprints", "debug_blueprints", "optional_blueprints")
        return type("OwnPages", (kind,), dict.fromkeys(of_faust, ()))(self)

    async def on_start(self) -> None:
        await super().on_start()
        self.flow_control.resume()

    async def on_stop(self) -> None:
        leave_after(STOP_WITHIN, SLOW_STOP, f"the stop took longer than {STOP_WITHIN:.0f} s")
        await self.worker.finish()
        await super().on_stop()


class Worker:
    """One worker's parts, and what it says of its health."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        rules = settings.rules()  # shared: what the desk has asked the registry in vain the takeover waits for
        self.takeover = Takeover(settings, rules)
        self.slot = Slot(settings)
        self.outbox = Outbox(settings, why_fenced=self.slot.why_fenced)
        self.intake = Intake(settings, self.takeover, self.metrics, self._deliver, why_fenced=self.slot.why_fenced)
        self.store = RedisProfiles(settings.redis_url, timeout=settings.redis_timeout)
        self.committed = CommittedInKafka(settings)
        memory = Memory(
            self.store,
            self.committed,
            settings.topic_prefix,
            settings.partitions,
            wait=settings.counterparty_wait,
        )
        self.following = Following(settings, rules, self.metrics, self._serve)
        self.desk = Desk(
            settings, rules, memory, self.outbox, self.metrics, self.following.send_back, self.following.drop
        )
        self._progress: tuple[int, float | None] = 0, None
        """Batches settled when somebody last asked, and since when, as far as was seen, something waits."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self.app = self._faust()

    def _faust(self) -> _App:
        s = self.settings
        app = _App(
            s.group,
            broker=f"kafka://{s.kafka_url}",
            datadir=tempfile.gettempdir(),
            web_host=s.web_host,
            web_bind=s.web_host,
            web_port=s.web_port,
            topic_disable_leader=True,
            topic_allow_declare=False,
            stream_wait_empty=False,
            loghandlers=list(logging.root.handlers),  # it empties the root logger before it adds these
        )
        app.worker = self
        self._batches = app.channel(maxsize=1)

        @app.service
        class Threads(faust.Service):
            """Starts what reads and writes Kafka, once there is a bundle to judge by."""

            async def on_start(me) -> None:  # noqa: N805
                self._loop = asyncio.get_running_loop()
                me.add_future(self._begin())

        @app.agent(self._batches)
        async def settle_batches(batches: Any) -> None:
            async for polled in batches:
                await asyncio.shield(self.desk.settle(polled))

        @app.page("/metrics")
        async def metrics(web: Any, _request: Any) -> Any:
            return web.bytes(exposition.generate_latest(self.metrics.registry), content_type="text/plain")

        @app.page("/healthz")
        async def healthz(web: Any, _request: Any) -> Any:
            trouble = None if (found := self.trouble()) is None else masking.text(found)
            return web.json({"healthy": trouble is None, "trouble": trouble}, status=200 if trouble is None else 503)

        @app.page("/readyz")
        async def readyz(web: Any, _request: Any) -> Any:
            waits = [masking.text(wait) for wait in self.waits_for()]
            body = {
                "ready": not waits,
                "waits_for": waits,
                "partitions": sorted(self.intake.parts.keys() - self.intake.parked.keys()),
                "parked": {number: masking.text(why) for number, why in self.intake.parked.items()},
            }
            return web.json(body, status=503 if waits else 200)

        return app

    async def _begin(self) -> None:
        """Bring the parts up, each once what it needs is there."""
        self.takeover.start()
        self.following.start()
        await self._wait_for_bundle()
        while not self.takeover.ready.is_set():
            await asyncio.sleep(0.05)
        if self.takeover.refused is not None:
            leave(WRONG_USE, str(self.takeover.refused))
        try:
            await asyncio.get_running_loop().run_in_executor(None, self.slot.take)
        except WrongSettings as error:
            leave(WRONG_USE, str(error))
        self.outbox.start()
        while not self.outbox.ready.is_set():
            await asyncio.sleep(0.01)
        self.intake.start()

    async def _wait_for_bundle(self) -> None:
        while self.desk.panel is None and self.takeover.refused is None:
            await asyncio.sleep(0.05)

    def _serve(self, panel: Panel) -> None:
        """From the following's thread: who judges from the next batch on."""
        self.desk.panel = panel
        self.intake.look_at_parked()

    def _deliver(self, polled: Polled) -> None:
        """From the intake's thread: to the agent."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._batches.put(polled), self._loop)  # type: ignore[arg-type]

    async def finish(self) -> None:
        """The batch in hand is told and remembered; then the threads end."""
        self._stopping = True
        self.intake.halt()
        self.following.halt()
        deadline = time.monotonic() + FINISH_WITHIN
        while (self.intake.is_alive() or self.desk.busy or self.following.is_alive()) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        self.outbox.close()
        self.slot.give_up()
        await self.store.close()
        self.committed.close()

    def waits_for(self) -> list[str]:
        """Everything that keeps this worker from judging, in words."""
        if self._stopping:
            return ["it is stopping"]
        waits = []
        if self.following.waits_for is not None:
            waits.append(f"a bundle: {self.following.waits_for}")
        if not self.takeover.ready.is_set():
            waits.append(self.takeover.waits_for or "Kafka and Redis")
        elif (trouble := self.slot.redis_trouble) is not None:
            waits.append(trouble)
        elif not self.intake.is_alive():
            waits.append("Kafka: the producer's transactions")
        elif not self.intake.assigned:
            waits.append("Kafka: an assignment of partitions")
        elif (reason := self.intake.waits_for() or self.outbox.waits_for()) is not None:
            waits.append(reason)
        return waits

    def trouble(self) -> str | None:
        """Offsets that stand still while lag grows: a worker that looks alive and does nothing."""
        done = self.intake.settled
        lag = sum(sample.value for family in self.metrics.lag.collect() for sample in family.samples)
        now = time.monotonic()
        waiting = lag or self.intake.doubts or self.desk.busy
        before, since = self._progress
        if not waiting or since is None or done != before:
            self._progress = done, now if waiting else None
            return None
        still = now - since
        return f"no batch was told for {still:.0f} s while {lag:.0f} messages wait" if still > STUCK_AFTER else None


def _check_port(settings: WorkerSettings) -> None:
    """Raises WrongSettings where something listens there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.web_host, settings.web_port))
        except OSError as error:
            raise WrongSettings(
                f"nothing can listen on {settings.web_host}:{settings.web_port} ({error.strerror}): set FRAUD_WEB_PORT, or "
                "FRAUD_WEB_HOST, to one that is free"
            ) from error


class _FaustWorker(faust.Worker):
    def on_setup_root_logger(self, logger: logging.Logger, level: int) -> None:
        """No spinner on a server."""


def run(settings: WorkerSettings, *, json_log: bool = False) -> None:
    """Run a worker until it is told to stop (SIGTERM, SIGINT)."""
    write_log(settings.log_level, as_json=json_log)
    for noisy in ("faust", "mode", "aiohttp.access", "asyncio", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for variable in unknown(WorkerSettings, os.environ):
        log.warning("%s", variable)
    _check_port(settings)
    asyncio.set_event_loop(uvloop.new_event_loop())
    worker = Worker(settings)
    _FaustWorker(
        worker.app,
        loglevel=settings.log_level,
        logging_config={"version": 1, "incremental": True},
        redirect_stdouts=False,
        quiet=True,
    ).execute_from_commandline()
