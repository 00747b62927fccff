"""Stands in for frps: reads its TOML file, listens on its port, and greets with the end of its token. Without a
token it refuses to start."""

import signal
import socket
import sys
import tomllib

with open("/etc/frp/frps.toml", "rb") as file:
    config = tomllib.load(file)
token = config["auth"]["token"]
if not token:
    sys.exit("no token")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with socket.create_server(("0.0.0.0", config["bindPort"])) as server:
    while True:
        client, _ = server.accept()
        with client:
            client.sendall(f"{token[-4:]} {len(config.get('allowPorts', []))}\n".encode())
