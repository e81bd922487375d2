"""Connections to the Redis that holds the queues: short bounds, one error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import redis

from helpers.domain.errors import DependencyError

# A Redis on the same network answers in a millisecond; a stalled one must not hold the loop up.
ANSWER_SECONDS = 2.0


def with_password(url: str, password: str) -> str:
    """`url` with `password` in it, for clients that take nothing else; as it is where there is none."""
    parts = urlsplit(url)
    if not password:
        return url
    host = f"{parts.username or ''}:{quote(password, safe='')}@{parts.hostname}" + (
        f":{parts.port}" if parts.port else ""
    )
    return urlunsplit(parts._replace(netloc=host))


def connect(url: str, *, answer_seconds: float = ANSWER_SECONDS) -> redis.Redis:
    """A client of its own connections; nothing is sent yet. `answer_seconds` bounds every command."""
    client: redis.Redis = redis.Redis.from_url(
        url,
        socket_timeout=answer_seconds,
        socket_connect_timeout=ANSWER_SECONDS,
        socket_keepalive=True,
        health_check_interval=30,
        decode_responses=True,
        # A command is not sent twice: whoever asked looks again and decides anew.
        retry=None,
    )
    return client


@contextlib.contextmanager
def answered(what: str) -> Iterator[None]:
    """Redis's own exceptions as ours.

    Raises:
        DependencyError: Redis refused, or did not answer.
    """
    try:
        yield
    except redis.RedisError as error:
        raise DependencyError(f"Redis: {what}: {error or type(error).__name__}") from error
    except OSError as error:
        raise DependencyError(f"Redis: {what}: {error.strerror or error}") from error


def rows(answer: Any) -> list[Any]:
    """A pipeline's answers; redis-py types them as anything."""
    return list(answer)
