"""Serves the app with the server that APP_SERVER names: asgi (default), threads or sync.

APP_FAULT makes it misbehave in one known way, each a way in which a release can be bad:
exits, never-ready, not-ready (see config/views.py), ignores-term, dies-on-term, flaps.

The rest is for a configuration to choose, whatever the release is: APP_WORKERS (of threads
and sync), APP_START_DELAY (seconds before it listens), APP_ON_TERM (ignores-term,
dies-on-term, or slow-term: it goes on for some seconds) and the APP_READY_ ones of
config/views.py.
"""

import os
import signal
import socket
import sys
import threading
import time

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
FAULT = os.environ.get("APP_FAULT", "")
SERVER = os.environ.get("APP_SERVER", "asgi")
WORKERS = int(os.environ.get("APP_WORKERS", "1"))
START_DELAY = float(os.environ.get("APP_START_DELAY", "0"))
ON_TERM = os.environ.get("APP_ON_TERM", FAULT)
TERM_SECONDS = 4
PORT = int(os.environ.get("PORT", "8000"))


def say(text):
    print(f"serve: {text}", flush=True)


def notify(state):
    """sd_notify(3): one datagram, if a listener exists."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        if address.startswith("@"):
            address = "\0" + address[1:]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(state.encode(), address)


def on_listening():
    notify(f"READY=1\nSTATUS=listening on {PORT}")
    say(f"listening on {PORT}, {time.clock_gettime(time.CLOCK_MONOTONIC) - started():.2f} s after exec")
    if FAULT == "flaps":
        threading.Timer(2, die, [4, "flaps"]).start()


def started():
    """When this process started, in seconds since boot."""
    with open("/proc/self/stat") as stat:
        ticks = int(stat.read().rpartition(")")[2].split()[19])
    return ticks / os.sysconf("SC_CLK_TCK")


def die(code, why):
    say(f"APP_FAULT={why}: exiting with {code}")
    os._exit(code)


def later(then):
    """For a handler that only sets a flag."""
    return lambda *arguments: threading.Timer(TERM_SECONDS, then, arguments).start()


def sleeping(then):
    """For gunicorn's main process: its workers go on meanwhile."""

    def handler(*arguments):
        time.sleep(TERM_SECONDS)
        then(*arguments)

    return handler


def on_term(otherwise, slowly):
    """The SIGTERM handler of the app: a fault's, or that of the server itself."""
    if ON_TERM == "ignores-term":
        return lambda *_: say("APP_FAULT=ignores-term: ignoring SIGTERM")
    if ON_TERM == "dies-on-term":
        return lambda *_: die(1, ON_TERM)
    if ON_TERM == "slow-term":
        return slowly(otherwise)
    return otherwise


def serve_asgi():
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig, frame):
            on_term(super().handle_exit, later)(sig, frame)

        async def startup(self, sockets=None):
            await super().startup(sockets=sockets)
            on_listening()

    config = uvicorn.Config(
        "config.asgi:application", host="0.0.0.0", port=PORT, lifespan="off",
        access_log=False, log_level="warning", proxy_headers=False,
    )
    Server(config).run()


def serve_gunicorn(worker, threads):
    from gunicorn.app.base import BaseApplication
    from gunicorn.arbiter import Arbiter

    class App(BaseApplication):
        def load_config(self):
            self.cfg.set("bind", f"0.0.0.0:{PORT}")
            self.cfg.set("worker_class", worker)
            self.cfg.set("workers", WORKERS)
            self.cfg.set("threads", threads)
            self.cfg.set("preload_app", True)
            self.cfg.set("worker_tmp_dir", "/dev/shm")
            # The app is loaded and the socket bound before, so that a client only waits for the fork.
            self.cfg.set("when_ready", lambda arbiter: on_listening())

        def load(self):
            from config.wsgi import application

            return application

    arbiter = Arbiter(App())
    arbiter.handle_term = on_term(arbiter.handle_term, sleeping)
    arbiter.run()


if FAULT == "exits":
    say("APP_FAULT=exits: no good reason to live, exiting with 3")
    sys.exit(3)
if FAULT == "never-ready":
    # Process 1 of a container ignores signals without a handler.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    say("APP_FAULT=never-ready: never listening")
    while True:
        signal.pause()
time.sleep(START_DELAY)
if SERVER == "asgi":
    serve_asgi()
elif SERVER == "threads":
    serve_gunicorn("gthread", 64)
elif SERVER == "sync":
    serve_gunicorn("sync", 1)
else:
    sys.exit(f"serve: APP_SERVER={SERVER}: not asgi, threads or sync")
