"""The service as an application of Ray Serve: how many replicas, what each takes, and how it is watched."""

from __future__ import annotations

from typing import Any

from storerec.scale.config import RayConfig
from storerec.scale.front import PLACE
from storerec.scale.replica import Order, Replica, builder
from storerec.serving import ServingConfig

APPLICATION = "storerec"
"""Name of the application, and of its only deployment."""

_GRACE_SECONDS = 5.0
_HEALTH_SECONDS = 2.0
"""Between two looks at each replica: a killed one is missed within this time."""

_PROXIES = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": PLACE,
    # a proxy would otherwise ask no replica of another node before those of its own have all they may have
    "RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING": "0",
    "RAY_SERVE_PROXY_PREFER_LOCAL_AZ_ROUTING": "0",
}
"""Environment of Serve's processes, where they are started by this program."""

_QUIET = {"log_level": "WARNING", "enable_access_log": False}


def application(order: Order, config: RayConfig, max_replicas: int | None) -> Any:
    """The application, to be run by Serve.

    Parameters
    ----------
    max_replicas: most replicas; ``config.workers`` is the least then. None always has these.
    """
    from ray import serve

    settings = order.config
    resources = {"num_cpus": config.cpus_per_worker, "num_gpus": config.gpus_per_worker}
    if config.memory_per_worker is not None:
        resources["memory"] = config.memory_per_worker
    many: dict[str, Any] = {"num_replicas": config.workers}
    if max_replicas is not None:
        # a batch that is full is what one replica does best; more than that at a time is what another could do
        many = {
            "autoscaling_config": {
                "min_replicas": config.workers,
                "max_replicas": max_replicas,
                "target_ongoing_requests": float(settings.max_batch),
            }
        }
    deployment: Any = serve.deployment(
        serve.ingress(builder(order))(Replica),
        name=APPLICATION,
        ray_actor_options=resources,
        # what waits is counted and refused by the replica itself, with 429 and when to come back; Serve only hands on
        # as many as may wait, work and be refused at a time
        max_ongoing_requests=max(settings.max_requests, settings.queue_size + settings.max_batch),
        health_check_period_s=_HEALTH_SECONDS,
        health_check_timeout_s=60.0,
        graceful_shutdown_timeout_s=settings.deadline_seconds + _GRACE_SECONDS,
        graceful_shutdown_wait_loop_s=0.2,
        logging_config=_QUIET,
        **many,
    )
    return deployment.bind()


def start_serve(config: ServingConfig, port: int) -> None:
    """Start Serve on the cluster, listening as the settings say: on its head node, or, beyond loopback, on all."""
    from ray import serve

    # a replica gives up by itself what takes too long: a body has one deadline, its answer another
    longest = 2 * config.deadline_seconds + _GRACE_SECONDS
    serve.start(
        proxy_location="HeadOnly" if config.is_local else "EveryNode",
        http_options={"host": config.host, "port": port, "request_timeout_s": longest},
        logging_config=_QUIET,
        controller_options={"runtime_env": {"env_vars": _PROXIES}},
    )


def run(application: Any) -> None:
    """Have Serve run it; returns before it is ready."""
    from ray import serve

    serve.run_many(
        [serve.RunTarget(application, name=APPLICATION, route_prefix="/", logging_config=_QUIET)],
        wait_for_ingress_deployment_creation=False,
        wait_for_applications_running=False,
    )
