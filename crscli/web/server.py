"""Lets an application listen. The one door to uvicorn and to sockets that listen."""

import errno
import multiprocessing
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess

import uvicorn
from fastapi import FastAPI

from crscli.errors import MachineError

_GRACE_S = 5
_BACKLOG = 2048
_TOO_SOON_S = 20.0


def bound(host: str, port: int) -> socket.socket:
    """A socket that holds an address; who asks before anybody answers waits.

    Args:
        host: an IP address, or localhost.
        port: 0 for one that is free.

    Raises:
        MachineError: the address is in use, or is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named: asyncio sends small parts at once only where it is, and each answer would wait 40 ms.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(_BACKLOG)  # two can be bound to an address until one of them listens
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            hint = "give another one; --port 0 takes a free one"
            raise MachineError(f"port {port} of {host} is in use", hint) from None
        if error.errno == errno.EACCES:
            raise MachineError(f"port {port} is not for this user", "give one above 1023: --port 8080") from None
        raise MachineError(f"{host} cannot be listened at ({error.strerror})", "give --host 127.0.0.1") from None
    return found


def address_of(listening: socket.socket) -> str:
    """The address to open in a browser."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: FastAPI, listening: socket.socket) -> None:
    """Answer requests in this process until Ctrl-C or SIGTERM.

    Args:
        app: answers.
        listening: as `bound` gives it.
    """
    config = uvicorn.Config(
        app, http="h11", ws="none", lifespan="on", access_log=False, log_level="error", server_header=False,
        proxy_headers=False, timeout_keep_alive=30, timeout_graceful_shutdown=_GRACE_S, backlog=_BACKLOG,
    )  # fmt: skip
    with suppress(KeyboardInterrupt):  # how a server is ended
        uvicorn.Server(config).run(sockets=[listening])


def run_workers(make: Callable[[], FastAPI], listening: socket.socket, workers: int) -> None:
    """Answer requests in processes of their own until Ctrl-C or SIGTERM; one that dies is replaced.

    Args:
        make: makes the application in each of them: a module's function, or a partial of one.
        listening: as `bound` gives it.
        workers: processes.

    Raises:
        MachineError: one ends as soon as it has begun.
    """
    context = multiprocessing.get_context("spawn")
    began: dict[SpawnProcess, float] = {}
    try:
        while True:
            while len(began) < workers:
                process = context.Process(target=_work, args=(make, listening))
                process.start()
                began[process] = time.monotonic()
            wait([process.sentinel for process in began])
            for process in [p for p in began if not p.is_alive()]:
                if time.monotonic() - began.pop(process) < _TOO_SOON_S:
                    raise MachineError(
                        f"a worker has ended ({process.exitcode})", "give --workers 1 to see why, or fewer of them"
                    )
    except KeyboardInterrupt:
        pass
    finally:
        for process in began:
            process.terminate()
        for process in began:
            process.join(2 * _GRACE_S)
            process.kill()


def _work(make: Callable[[], FastAPI], listening: socket.socket) -> None:
    with suppress(KeyboardInterrupt):  # while the model was being loaded
        run(make(), listening)
