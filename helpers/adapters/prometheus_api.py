"""Prometheus's HTTP API, as far as past series are asked for."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlencode

import urllib3

from helpers.domain.errors import DependencyError, InputError

_TIMEOUT = urllib3.Timeout(connect=5, read=60)
_BAD_REQUEST = 400


class PrometheusApi:
    """`ports.range_queries.RangeQueries`."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"--prometheus {url!r}: an http or https address, such as http://prometheus:9090")
        self._url = url.rstrip("/")
        self._pool = urllib3.PoolManager(retries=False, timeout=_TIMEOUT)

    def query_range(self, query: str, start: datetime, end: datetime, step_seconds: int) -> str:
        """The answer's text.

        Raises:
            DependencyError: no answer, or a refusal; names address and query.
        """
        parameters = {"query": query, "start": start.timestamp(), "end": end.timestamp(), "step": step_seconds}
        place = f"{self._url}/api/v1/query_range ({query})"
        try:
            response = self._pool.request("GET", f"{self._url}/api/v1/query_range?{urlencode(parameters)}")
        except urllib3.exceptions.HTTPError as error:
            raise DependencyError(f"{place}: {error}") from error
        text = response.data.decode(errors="replace")
        if response.status >= _BAD_REQUEST:
            raise DependencyError(f"{place}: {response.status} {text[:300]}")
        return text
