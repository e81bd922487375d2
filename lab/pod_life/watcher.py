"""Lists and watches one kind of object for ever, and tells of every change."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from lab.api import Api, ApiError, Object

RETRY_SECONDS = 0.5
LOG = logging.getLogger(__name__)

OnChange = Callable[[Object], None]


class Watcher(threading.Thread):
    """Calls `changed` for each object that is there or changes, `deleted` for each that is gone.

    An object may be told of more than once with the same content; none is missed.
    """

    def __init__(self, api: Api, path: str, changed: OnChange, deleted: OnChange, **query: str) -> None:
        super().__init__(name=f"watch {path}", daemon=True)
        self._api = api
        self._path = path
        self._query = query
        self._changed = changed
        self._deleted = deleted
        self._known: dict[str, Object] = {}

    def run(self) -> None:
        """The thread's loop: list, watch until it breaks, list again."""
        while True:
            try:
                version = self._list()
                while True:
                    version = self._watch(version)
            except ApiError as error:
                LOG.info("listing %s again: %s", self._path, error)
                time.sleep(RETRY_SECONDS)

    def _list(self) -> str:
        answer = self._api.get(self._path, **self._query)
        now = {item["metadata"]["uid"]: item for item in answer["items"]}
        for uid in self._known.keys() - now.keys():
            self._deleted(self._known.pop(uid))
        for uid, item in now.items():
            self._known[uid] = item
            self._changed(item)
        version: str = answer["metadata"]["resourceVersion"]
        return version

    def _watch(self, version: str) -> str:
        for event in self._api.watch(self._path, version, self._query):
            item = event["object"]
            if event["type"] == "ERROR":
                raise ApiError(item.get("code", 0), item.get("message", "the watch ended"))
            version = item["metadata"]["resourceVersion"]
            if event["type"] == "BOOKMARK":
                continue
            uid = item["metadata"]["uid"]
            if event["type"] == "DELETED":
                self._known.pop(uid, None)
                self._deleted(item)
            else:
                self._known[uid] = item
                self._changed(item)
        return version
