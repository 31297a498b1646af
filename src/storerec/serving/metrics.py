"""What the service counts and measures, for Prometheus; in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from storerec.serving.batcher import BatchReport

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters, gauges and histograms of one service. Labels are names of ours, never what a client sent.

    Parameters
    ----------
    replica: label of all of them, where the service is one of several behind one address.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, replica: str | None = None) -> None:
        self._replica = replica
        self.registry = registry = CollectorRegistry()
        self.request_seconds = Histogram(
            "storerec_request_seconds", "Seconds from a request to its answer.", ("route", "status"),
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.queue_seconds = Histogram(
            "storerec_queue_seconds", "Seconds that a job waited for the model.", ("kind",),
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.batch_seconds = Histogram(
            "storerec_batch_seconds", "Seconds of work for a batch.", ("kind",), buckets=_SECONDS, registry=registry
        )
        self.batch_size = Histogram(
            "storerec_batch_size", "Jobs of a batch.", ("kind",), buckets=_SIZES, registry=registry
        )
        self.queue_depth = Gauge("storerec_queue_depth", "Jobs that wait for the model.", registry=registry)
        self.refused = Counter(
            "storerec_refused", "Requests refused or given up, by reason.", ("reason",), registry=registry
        )
        self.cache_hits = Counter("storerec_cache_hits", "Answers taken from the cache.", registry=registry)
        self.cache_misses = Counter("storerec_cache_misses", "Answers that had to be computed.", registry=registry)
        self.reloads = Counter("storerec_reloads", "Bundles loaded, by result.", ("result",), registry=registry)
        self.items = Gauge("storerec_items", "Items in the catalogue.", registry=registry)
        self.ready = Gauge("storerec_ready", "1 when requests are answered.", registry=registry)

    def batch(self, report: BatchReport) -> None:
        """Take in a batch that was run."""
        self.batch_seconds.labels(report.kind).observe(report.seconds)
        self.batch_size.labels(report.kind).observe(report.size)
        for seconds in report.waited:
            self.queue_seconds.labels(report.kind).observe(seconds)

    def watch_depth(self, depth: Callable[[], float]) -> None:
        """Read the queue's depth when it is asked for."""
        self.queue_depth.set_function(depth)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry if self._replica is None else _Labelled(self.registry, self._replica))


class _Labelled(CollectorRegistry):
    """A registry with one more label on every sample."""

    def __init__(self, registry: CollectorRegistry, replica: str) -> None:
        super().__init__()
        self._inner, self._name = registry, replica

    def collect(self) -> Iterator[Metric]:
        """All samples, labelled."""
        for metric in self._inner.collect():
            metric.samples = [one._replace(labels={**one.labels, "replica": self._name}) for one in metric.samples]
            yield metric
