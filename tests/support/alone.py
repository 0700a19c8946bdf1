"""Run a command on a machine of its own, as far as its network goes: ``python alone.py COMMAND…`` within ``unshare``.

The only way out is a loopback device on which a name server listens that knows nothing. What it was asked is printed as
the last line, after what the command prints.
"""

import fcntl
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _UP = 0x8913, 0x8914, 1


def main() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        name, flags = struct.unpack("16sh", fcntl.ioctl(device, _SIOCGIFFLAGS, struct.pack("16sh", b"lo", 0)))
        fcntl.ioctl(device, _SIOCSIFFLAGS, struct.pack("16sh", name, flags | _UP))
    with tempfile.NamedTemporaryFile("w") as settings:
        settings.write("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        settings.flush()
        subprocess.run(["mount", "--bind", settings.name, "/etc/resolv.conf"], check=True)
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("127.0.0.1", 53))
        asked: list[str] = []

        def listen() -> None:
            while True:
                question = server.recv(512)[12:]
                asked.append(".".join(part.decode(errors="replace") for part in _labels(question)))

        threading.Thread(target=listen, daemon=True).start()
        code = subprocess.run(sys.argv[1:], check=False).returncode
        print(f"looked up: {sorted(set(asked))}", flush=True)
        os._exit(code)


def _labels(question: bytes) -> list[bytes]:
    labels = []
    while question and (length := question[0]):
        labels.append(question[1:1 + length])
        question = question[1 + length:]
    return labels


if __name__ == "__main__":
    sys.exit(main())
