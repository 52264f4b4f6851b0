"""A process that has imported everything, and forks for each command that `processes.call` asks for.

Nothing else happens in it: no thread runs and no GPU is in use. It ends with the process that has started it; commands
go on. `multiprocessing`'s server of this kind ends its processes without what Python does at an exit, looks for modules in
the working folder, and needs a short name for a socket.
"""

import gc
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the commands
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # the package this file is of; its folder has other names

from importlib import import_module

IMPORTED = (
    *(f"adapruner_det.commands.{name}" for name in ("train_net", "score", "selection")),
    *("sklearn.neighbors", "sklearn.decomposition", "sklearn.isotonic", "scipy.optimize"),
)


def serve(control: socket.socket) -> "tuple[dict, int] | None":
    """What to do and where output goes, in a process forked for each request; None when nobody asks any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for commands
    while True:
        head, files, _, _ = socket.recv_fds(control, 8, 2)
        if not head:
            return None
        request = json.loads(_exactly(control, int.from_bytes(head, "big")))
        if not os.fork():
            console, status = files
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            command = os.fork()
            if not command:
                os.close(status)
                return request, console
            os.close(console)
            _tell(status, command)
            _tell(status, os.waitstatus_to_exitcode(os.waitpid(command, 0)[1]))
            os._exit(0)
        for file in files:
            os.close(file)


def _tell(status: int, number: int) -> None:
    """A line with the command's process, then one with its exit status."""
    with suppress(OSError):  # who has asked is gone
        os.write(status, f"{number}\n".encode())


def _exactly(control: socket.socket, number: int) -> bytes:
    content = b""
    while len(content) < number:
        part = control.recv(number - len(content))
        if not part:
            raise EOFError("who asked was gone before the request was whole")
        content += part
    return content


def run(request: dict, console: int) -> None:
    """The command, in a process that is as a new one."""
    import random

    import numpy as np
    import torch

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), console, console)):
        os.dup2(file, number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1, errors="backslashreplace")
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads):
        torch.set_num_threads(int(threads))
    random.seed()
    np.random.seed()
    sys.argv = request["words"]
    import_module(request["module"]).main()


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    for name in IMPORTED:
        import_module(name)
    gc.collect()
    gc.freeze()  # else the end of each process looks through all that was imported, which takes a second
    control.sendall(b"ready")
    asked = serve(control)
    if asked:
        run(*asked)


if __name__ == "__main__":
    main()
