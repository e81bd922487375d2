"""XID errors as they happen, from NVML's event set; counted since this process started."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence

import pynvml

from helpers.domain.telemetry.reading import Gpu

_WAIT_MILLISECONDS = 200
_STOP_SECONDS = 2.0
_PAUSE_SECONDS = 1.0


class XidEvents:
    """Listens in a thread of its own; what was counted stays over a stop and a new start."""

    def __init__(self) -> None:
        self._counts: dict[tuple[Gpu, int], int] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def listening(self) -> bool:
        """Whether a thread was started and not stopped since."""
        return self._thread is not None

    def counts(self) -> Mapping[tuple[Gpu, int], int]:
        """`{(gpu, xid code): events}`."""
        with self._lock:
            return dict(self._counts)

    def listen(self, gpus: Sequence[Gpu]) -> None:
        """Starts listening for events of `gpus`; NVML must be initialised."""
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._listen, args=(tuple(gpus), self._stopped), name="nvml-xid", daemon=True
        )
        self._thread.start()

    def stop(self) -> bool:
        """Stops listening; False where the thread hangs in the driver, which must then be left alone."""
        if self._thread is None:
            return True
        self._stopped.set()
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            return False
        self._thread = None
        return True

    def _listen(self, gpus: tuple[Gpu, ...], stopped: threading.Event) -> None:
        try:
            events = pynvml.nvmlEventSetCreate()
        except pynvml.NVMLError:
            return  # no events on this driver: the metric is then absent
        by_index = {gpu.index: gpu for gpu in gpus if _register(gpu, events)}
        while by_index and not stopped.is_set():
            try:
                event = pynvml.nvmlEventSetWait(events, _WAIT_MILLISECONDS)
                gpu = by_index.get(pynvml.nvmlDeviceGetIndex(event.device))
            except pynvml.NVMLError as error:
                if error.value != pynvml.NVML_ERROR_TIMEOUT:
                    stopped.wait(_PAUSE_SECONDS)  # an error that stays must not spin
                continue
            if gpu is not None:
                with self._lock:
                    key = (gpu, int(event.eventData))
                    self._counts[key] = self._counts.get(key, 0) + 1
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlEventSetFree(events)


def _register(gpu: Gpu, events: object) -> bool:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(gpu.index)
        pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, events)
    except pynvml.NVMLError:
        return False
    return True
