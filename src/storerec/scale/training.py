"""Training in the workers of a Ray Train run, which goes on from the last checkpoint when one of them is lost."""

from __future__ import annotations

import math
import os
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from storerec.errors import ConfigError, LostProcessError, StorerecError, TrainingError
from storerec.llm.progress import Progress
from storerec.scale.cluster import connected
from storerec.scale.config import RayConfig
from storerec.scale.mailbox import SentProgress, ShownProgress, open_mailbox
from storerec.scale.mapping import limit_threads

_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 60.0
"""After so long without a word of the workers it is said what they may wait for."""

_SETTINGS = {
    "RAY_TRAIN_V2_ENABLED": "1",
    # paths in a configuration stand for what they do where the program was started
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Ray learns late that a node is gone, and asks for its room once more for so long (its usual: 60)
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
}


class _Refused(Exception):  # noqa: N818 - it never leaves this module's processes
    """Lets Ray end a training whose reason stands in the mailbox."""


def train_on_ray(config: RayConfig, training: Callable[[Progress], None], progress: Progress) -> None:
    """Call ``training`` in ``config.workers`` processes of the cluster, which train together as under torchrun.

    ``training`` is pickled. It must keep its own checkpoints where all nodes see them, and go on from them: when a
    worker or a node is lost, Ray ends the others and calls it anew in as many, or, with ``config.min_workers``, in as
    many as there is room for. The same number of workers ends with the same weights as if none had been lost.

    Raises
    ------
    StorerecError: that of a worker, as it is; nothing is then tried again.
    TrainingError: workers were lost more than ``config.attempts`` times.
    ConfigError: the cluster has no room for so many workers.
    """
    with connected(config) as ray, tempfile.TemporaryDirectory(prefix="storerec-") as storage:
        _check_workers(ray, config)
        mailbox = open_mailbox(ray)
        run = _Run(_trainer(config, _work(training, mailbox, config), storage))
        shown, patient_until = ShownProgress(progress), time.monotonic() + _PATIENCE_SECONDS
        while run.wait(_POLL_SECONDS):
            if letters := ray.get(mailbox.take.remote()):
                shown.show(letters)
                patient_until = math.inf
            elif time.monotonic() > patient_until:
                progress.say(f"training waits for its workers; {_free(ray)}")
                patient_until = time.monotonic() + 10 * _PATIENCE_SECONDS
        shown.show(ray.get(mailbox.take.remote()))
        shown.end()
        fault = ray.get(mailbox.fault.remote())
    if fault is not None:
        raise fault
    if run.error is not None:
        raise TrainingError(_told(run.error, config.attempts)) from run.error


def _work(training: Callable[[Progress], None], mailbox: Any, config: RayConfig) -> Callable[[], None]:
    threads = max(1, int(config.cpus_per_worker))

    def work() -> None:
        import ray
        import ray.train

        limit_threads(threads)
        if ray.get(mailbox.fault.remote()) is not None:
            return  # Ray tries again whatever the reason was
        first = ray.train.get_context().get_world_rank() == 0
        try:
            training(SentProgress(mailbox) if first else Progress(enabled=False))
        except LostProcessError:
            raise
        except StorerecError as error:
            ray.get(mailbox.report.remote(error))
            raise _Refused from None

    return work


def _trainer(config: RayConfig, work: Callable[[], None], storage: str) -> Any:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    gpus = math.ceil(config.gpus_per_worker)
    takes = {"CPU": config.cpus_per_worker} | ({"GPU": gpus} if gpus else {})
    if config.memory_per_worker:
        takes["memory"] = config.memory_per_worker
    least = config.min_workers
    scaling: dict[str, Any] = {"num_workers": (least, config.workers) if least else config.workers}
    threads = str(max(1, int(config.cpus_per_worker)))
    environment = {"TORCH_CPP_LOG_LEVEL": "ERROR", "OMP_NUM_THREADS": threads}
    run: dict[str, Any] = {
        "storage_path": storage,  # for what Ray notes; checkpoints are the training's own
        "failure_config": FailureConfig(max_failures=config.attempts),
        "worker_runtime_env": {"env_vars": environment},
    }
    return TorchTrainer(
        work,
        # what is no tensor of the training goes from processor to processor
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpus else "gloo", timeout_s=30 * 24 * 3600),
        scaling_config=ScalingConfig(use_gpu=gpus > 0, resources_per_worker=takes, **scaling),
        run_config=RunConfig(**run),
    )


class _Run:
    """A Ray Train run in a thread of its own: in the main one it would answer an interrupt by itself, and end well."""

    def __init__(self, trainer: Any) -> None:
        self.error: Exception | None = None
        self._trainer = trainer
        self._thread = threading.Thread(target=self._fit, daemon=True)
        self._thread.start()

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:
            self.error = error

    def wait(self, seconds: float) -> bool:
        """Whether it still runs after so many seconds."""
        self._thread.join(seconds)
        return self._thread.is_alive()


def _check_workers(ray: Any, config: RayConfig) -> None:
    """Ray would wait for ever for room that there is not."""
    least, gpus = config.min_workers or config.workers, math.ceil(config.gpus_per_worker)
    room = 0
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            fits = has.get("CPU", 0.0) / config.cpus_per_worker
            if config.memory_per_worker:
                fits = min(fits, has.get("memory", 0.0) / config.memory_per_worker)
            room += int(min(fits, has.get("GPU", 0.0) / gpus) if gpus else fits)
    if room < least:
        raise ConfigError(
            f"training takes {least} workers of {config.cpus_per_worker:g} CPU" + (f" and {gpus} GPU" if gpus else "")
            + f" each, but the cluster has room for {room}; ask for fewer (--workers), or for less of each"
        )  # fmt: skip


def _free(ray: Any) -> str:
    """What the cluster has left: all of it may be taken by what else runs there."""
    left, whole = ray.available_resources(), ray.cluster_resources()
    free = [f"{left.get(name, 0):g} of {whole[name]:g} {name}" for name in ("CPU", "GPU") if name in whole]
    return f"the cluster has {' and '.join(free)} free"


def _told(error: Exception, attempts: int) -> str:
    failures = getattr(error, "worker_failures", None) or {}
    causes = [one for one in failures.values() if not isinstance(one, LostProcessError)] or [error]
    lines = [line for line in str(causes[0]).strip().splitlines() if line.strip()]
    return (
        f"training was begun {attempts + 1} times on the cluster and failed each time; the last time: "
        f"{lines[-1].strip() if lines else type(causes[0]).__name__}"
    )
