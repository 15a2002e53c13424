"""Metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Meters:
    """Metrics of one server, in a separate registry, since vLLM fills the global one."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "seg_zero_requests", "Requests to /v1/segment by HTTP status", ["status"], registry=self.registry
        )
        self._refused = Counter(
            "seg_zero_refused_requests",
            "Of them, those refused without work of a model (4xx and 503), by HTTP status",
            ["status"],
            registry=self.registry,
        )
        self._latency = Histogram(
            "seg_zero_request_seconds",
            "From the first byte to the answer, without refused requests",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batches = Histogram(
            "seg_zero_policy_batch_size",
            "Requests that the policy worked on together, after new ones joined",
            buckets=_SIZES,
            registry=self.registry,
        )

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A gauge that is read when the metrics are."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def request(self, status: int, seconds: float) -> None:
        self._requests.labels(str(status)).inc()
        if 400 <= status < 500 or status == 503:
            self._refused.labels(str(status)).inc()
        else:
            self._latency.observe(seconds)

    def batch(self, size: int) -> None:
        self._batches.observe(size)

    def text(self) -> bytes:
        return generate_latest(self.registry)
