"""The pages that tests ask for. Async, so that one process holds many slow ones at a time."""

import asyncio
import random
import socket
import time
from os import environ

import redis
from asgiref.sync import iscoroutinefunction, sync_to_async
from django.db import connection
from django.http import HttpResponse, HttpResponseNotAllowed, StreamingHttpResponse
from django.utils.decorators import sync_and_async_middleware

VERSION = environ.get("APP_VERSION", "dev")
FAULT = environ.get("APP_FAULT", "")
# Readiness by configuration: the status, the seconds until the answer, and the seconds after the start in
# which it is 503.
READY_STATUS = int(environ.get("APP_READY_STATUS", "200"))
READY_DELAY = float(environ.get("APP_READY_DELAY", "0"))
READY_AFTER = time.monotonic() + float(environ.get("APP_READY_AFTER", "0"))
# The share of visitors who get an error, while the readiness path answers.
ERRORS = float(environ.get("APP_ERRORS", "0"))
ASGI = environ.get("APP_SERVER", "asgi") == "asgi"
WHO = f"{VERSION} {socket.gethostname()}"


def respond(body, status=200, content_type="text/plain"):
    # CommonMiddleware, which this app does not use, would set the length.
    headers = {"Content-Type": content_type, "Content-Length": str(len(body))}
    return HttpResponse(body, status=status, headers=headers)


def text(line, status=200):
    return respond(f"{line}\n".encode(), status)


@sync_and_async_middleware
def check_host(get_response):
    # get_host() refuses a Host that is not in ALLOWED_HOSTS. Django's CommonMiddleware calls it too, but
    # costs a thread switch per request.
    if iscoroutinefunction(get_response):

        async def middleware(request):
            request.get_host()
            return await get_response(request)
    else:

        def middleware(request):
            request.get_host()
            return get_response(request)

    return middleware


async def index(request):
    return text(WHO, 500 if random.random() < ERRORS else 200)


async def version(request):
    return text(VERSION)


async def count(request):
    return text(await sync_to_async(redis.ask)("INCR", "visits"))


async def echo(request):
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    return respond(request.body, content_type="application/octet-stream")


async def slow(request):
    body = request.body  # read before the wait: the client has sent all of it
    await asyncio.sleep(float(request.GET.get("s", "2")))
    return text(f"{WHO} after {len(body)} bytes")


def events(request):
    return range(int(float(request.GET.get("s", "5")) * 2))


async def stream(request):
    for n in events(request):
        await asyncio.sleep(0.5)
        yield f"data: {n} {WHO}\n\n"
    yield "event: end\ndata:\n\n"


def stream_sync(request):
    for n in events(request):
        time.sleep(0.5)
        yield f"data: {n} {WHO}\n\n"
    yield "event: end\ndata:\n\n"


async def sse(request):
    # Under WSGI Django would collect an async stream before it sends a byte.
    body = stream(request) if ASGI else stream_sync(request)
    return StreamingHttpResponse(body, content_type="text/event-stream")


def ask_database():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


async def readyz(request):
    if FAULT == "not-ready":
        return text("not ready: APP_FAULT=not-ready", status=503)
    if time.monotonic() < READY_AFTER:
        return text("not ready: still warming up", status=503)
    if READY_DELAY:
        await asyncio.sleep(READY_DELAY)
    try:
        await sync_to_async(ask_database)()
    except Exception as error:
        return text(f"not ready: database: {error}".strip(), status=503)
    if READY_STATUS == 204:
        return HttpResponse(status=204)
    return text("ready", status=READY_STATUS)
