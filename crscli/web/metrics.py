"""What a service counts, in the text form that Prometheus reads."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from threading import Lock

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE"})


class Metrics:
    """Counts of the requests that one process has answered."""

    def __init__(self, routes: Iterable[str]) -> None:
        """Begin at zero.

        Args:
            routes: paths that are counted on their own, "{id}" standing for one part; all others are one.
        """
        self._fixed = {route for route in routes if "{" not in route}
        self._open = {route.split("{")[0]: route for route in routes if "{" in route}
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._door = Lock()

    def count(self, method: str, path: str, status: int, seconds: float) -> None:
        """Take down a request that was answered."""
        route = self._route(path)
        with self._door:
            self._requests[method if method in _METHODS else "other", route, status] += 1
            self._buckets.setdefault(route, [0] * (len(_SECONDS) + 1))[bisect_left(_SECONDS, seconds)] += 1
            self._seconds[route] += seconds

    def _route(self, path: str) -> str:
        found = next((route for start, route in self._open.items() if path.startswith(start)), "other")
        return path if path in self._fixed else found

    def text(self, gauges: Mapping[str, tuple[str, float]], counters: Mapping[str, tuple[str, float]]) -> str:
        """All counts.

        Args:
            gauges: name -> (what it is, its value now).
            counters: the same of values that only rise.
        """
        with self._door:
            answered, seconds = dict(self._requests), dict(self._seconds)
            buckets = {route: list(counts) for route, counts in self._buckets.items()}
        lines = _head("crs_requests_total", "counter", "Requests answered.")
        for (method, route, status), count in sorted(answered.items()):
            lines.append(f'crs_requests_total{{method="{method}",route="{route}",status="{status}"}} {count}')
        errors: Counter[tuple[str, int]] = Counter()
        for (_, route, status), count in answered.items():
            errors[route, status] += count if status >= 400 else 0
        lines += _head("crs_errors_total", "counter", "Requests answered by an error.")
        lines += [f'crs_errors_total{{route="{r}",status="{s}"}} {n}' for (r, s), n in sorted(errors.items()) if n]
        lines += _head("crs_request_seconds", "histogram", "Time from a request to the end of its answer.")
        for route, counts in sorted(buckets.items()):
            total = 0
            for bound, count in zip((*_SECONDS, "+Inf"), counts, strict=True):
                total += count
                lines.append(f'crs_request_seconds_bucket{{route="{route}",le="{bound}"}} {total}')
            lines.append(f'crs_request_seconds_sum{{route="{route}"}} {seconds[route]:.6f}')
            lines.append(f'crs_request_seconds_count{{route="{route}"}} {total}')
        for kind, values in (("gauge", gauges), ("counter", counters)):
            for name, (what, value) in values.items():
                lines += [*_head(name, kind, what), f"{name} {value}"]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, what: str) -> list[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]
