"""``storerec serve --engine ray``: the service in replicas, from the start of Serve to its orderly end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storerec.bundle import Manifest
from storerec.config import RunOptions
from storerec.errors import ConfigError
from storerec.pipeline.bundling import bundle_folder
from storerec.scale.cluster import connected
from storerec.scale.config import RayConfig
from storerec.scale.deployment import APPLICATION, application, run, start_serve
from storerec.scale.ledger import NAME, NAMESPACE, Ledger
from storerec.scale.replica import Order
from storerec.scale.signals import Signals
from storerec.serving import ServingConfig
from storerec.serving.listening import bound, check_reach, url_of

_LEFT_SECONDS = 30.0
"""A service whose program was not heard of for so long was left behind by one that was killed."""

_ATTEND_SECONDS = 5.0
_LOOK_SECONDS = 0.25
_PATIENCE_SECONDS = 30.0
"""After so long without all replicas it is said what they wait for."""


def serve_replicas(
    folder: Path,
    config: ServingConfig,
    ray_config: RayConfig,
    *,
    max_replicas: int | None = None,
    api_key: str | None = None,
    backbone: str | None = None,
    options: RunOptions | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve a bundle, or a run folder's, in ``ray_config.workers`` replicas until the process is asked to stop.

    A stop answers what was asked, ends the application, and Serve and the cluster too where this has started them.
    SIGHUP has all replicas load the bundle anew, one after the other.

    Parameters
    ----------
    max_replicas: most replicas while many requests come; None always has ``ray_config.workers``.
    api_key, backbone, say: as :func:`storerec.serving.serve`.

    Raises
    ------
    ConfigError: there is no key for an address others can reach, it cannot be listened at, there is no such cluster, or
        something else is served there.
    StorerecError: the bundle cannot be loaded.
    MissingExtraError: Ray is not installed.
    """
    check_reach(config, api_key)
    if max_replicas is not None and max_replicas < ray_config.workers:
        raise ConfigError(f"--max-replicas {max_replicas}: fewer than the {ray_config.workers} of --workers")
    bundle = bundle_folder(folder.resolve())
    Manifest.read(bundle)
    order = Order(folder.resolve(), config, options or RunOptions(), backbone, api_key, Path.cwd())
    most = ray_config.model_copy(update={"workers": max(ray_config.workers, max_replicas or 0)})
    if ray_config.address is None:  # the cluster will be here: better told before it is started
        bound(config).close()
    with Signals() as signals, connected(most) as ray:
        signals.take()  # Ray has taken SIGTERM
        _end_what_was_left(ray)
        with _serve(ray, config, ends=ray_config.address is None) as url, _ledger(ray, bundle) as ledger:
            say(f"listening at {url}; {ray_config.workers} replicas load the model")
            answers = False
            try:
                _run(ray, application(order, ray_config, max_replicas))
                answers = _ready(ray, ledger, ray_config.workers, signals, say)
                if answers:
                    say(f"ready at {url}; its page is there, its description at /openapi.json")
                    _attend(ray, ledger, signals, say)
            finally:
                if answers or ray_config.address is not None:  # else all of it ends with the cluster
                    _end_application()


@contextmanager
def _serve(ray: Any, config: ServingConfig, *, ends: bool) -> Iterator[str]:
    """Have Serve run on the cluster for the length of a block: where it listens.

    Where the cluster ``ends`` after that, Serve ends with it.
    """
    from ray import serve
    from ray.serve.context import _get_global_client

    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # its import has set another

    there = _get_global_client(raise_if_no_controller_running=False)
    if there is not None:
        yield _where_it_listens(there.http_config, config)
        return
    port = config.port
    if port == 0 or _head_is_here(ray):
        with bound(config) as free:
            port = free.getsockname()[1]
    try:
        try:
            start_serve(config, port)
        except (TimeoutError, ray.exceptions.RayActorError) as error:
            raise ConfigError(f"Serve cannot listen at {config.host}, port {port} ({error})".split("\n")[0]) from None
        yield url_of(config.host, port)
    finally:
        if not ends and not serve.status().applications:
            serve.shutdown()


def _where_it_listens(there: Any, config: ServingConfig) -> str:
    url = url_of(there.host, there.port)
    if there.host != config.host or config.port not in (0, there.port):
        raise ConfigError(
            f"Serve runs on this cluster already and listens at {url}: give --host {there.host} --port {there.port}, "
            "or end it with `serve shutdown`"
        )
    return url


def _head_is_here(ray: Any) -> bool:
    here = ray.get_runtime_context().get_node_id()
    return any(one["NodeID"] == here and "node:__internal_head__" in one["Resources"] for one in ray.nodes())


@contextmanager
def _ledger(ray: Any, bundle: Path) -> Iterator[Any]:
    """Start the ledger for the length of a block."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # this node sees the bundle, for it was just looked at; another one must do where this one is lost
    place = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    made = ray.remote(Ledger).options(
        name=NAME, namespace=NAMESPACE, lifetime="detached", max_restarts=-1, num_cpus=0, scheduling_strategy=place
    )
    try:
        ledger = made.remote(bundle)
    except ValueError:  # the name was taken since we looked
        raise ConfigError("another `storerec serve` starts on this cluster") from None
    try:
        yield ledger
    finally:
        ray.kill(ledger, no_restart=True)


def _end_what_was_left(ray: Any) -> None:
    """End the service of a program that was killed; ConfigError where another one runs."""
    until = time.monotonic() + _LEFT_SECONDS
    quiet = None
    while quiet is None:
        try:
            there = ray.get_actor(NAME, namespace=NAMESPACE)
        except ValueError:
            return
        try:
            quiet = ray.get(there.unattended.remote(), timeout=_LEFT_SECONDS)
        except ray.exceptions.RayError:  # it is dying, or being started anew
            if time.monotonic() > until:
                raise ConfigError(
                    "the ledger of another `storerec serve` is on this cluster and does not answer: end that one first"
                ) from None
            time.sleep(_LOOK_SECONDS)
    if quiet < _LEFT_SECONDS:
        raise ConfigError(
            "another `storerec serve` serves on this cluster: end it first; what a killed one has left is ended after "
            f"{_LEFT_SECONDS:.0f} seconds"
        )
    _end_application()
    ray.kill(there, no_restart=True)
    while True:
        try:
            ray.get_actor(NAME, namespace=NAMESPACE)
        except ValueError:
            return
        time.sleep(_LOOK_SECONDS)


def _run(ray: Any, made: Any) -> None:
    from ray.serve.exceptions import RayServeException

    try:
        run(made)
    except (RayServeException, ray.exceptions.RayTaskError) as error:  # another application has the address
        cause = getattr(error, "cause", error)
        raise ConfigError(f"Serve does not take the service: {cause}") from None


def _ready(ray: Any, ledger: Any, count: int, signals: Signals, say: Callable[[str], None]) -> bool:
    """Wait until all replicas answer; False where the program is to stop. Raises what keeps one from loading."""
    from ray import serve

    patient_until = time.monotonic() + _PATIENCE_SECONDS
    while not signals.stop.wait(_LOOK_SECONDS):
        for error in _failures(ray, ledger):
            raise error
        found = serve.status().applications.get(APPLICATION)
        state = "" if found is None else str(getattr(found.status, "value", found.status))
        if state == "RUNNING":
            return True
        if found is not None and state == "DEPLOY_FAILED":
            raise RuntimeError(f"{found.message} {' '.join(one.message for one in found.deployments.values())}")
        if time.monotonic() > patient_until:
            states = [] if found is None else [one.replica_states for one in found.deployments.values()]
            there = sum(number for one in states for state, number in one.items() if state == "RUNNING")
            say(f"{there} of {count} replicas are ready; the others load, or wait for cores or GPUs of the cluster")
            patient_until = time.monotonic() + _PATIENCE_SECONDS
    return False


def _attend(ray: Any, ledger: Any, signals: Signals, say: Callable[[str], None]) -> None:
    """Until the program is to stop: be heard of, say what fails, and hand on requests to reload."""
    heard, reload = time.monotonic(), False
    while not signals.stop.wait(_LOOK_SECONDS):
        if signals.taken_hang_up():
            reload = not _asked(ray, ledger)
        if time.monotonic() - heard > _ATTEND_SECONDS:
            heard = time.monotonic()
            reload = reload and not _asked(ray, ledger)  # by now replicas have seen a ledger that was started anew
            for error in _failures(ray, ledger):
                say(f"a replica did not load the bundle: {error}")


def _asked(ray: Any, ledger: Any) -> bool:
    """Ask for a reload; whether the ledger has heard it."""
    try:
        ray.get(ledger.ask_reload.remote(), timeout=_ATTEND_SECONDS)
    except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
        return False
    return True


def _failures(ray: Any, ledger: Any) -> list[Exception]:
    try:
        return ray.get(ledger.attend.remote(), timeout=_LEFT_SECONDS)
    except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):  # it is being started anew
        return []


def _end_application() -> None:
    from ray import serve

    if APPLICATION in serve.status().applications:
        serve.delete(APPLICATION)
