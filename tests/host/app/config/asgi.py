"""Django for HTTP, and an echo on /ws that says first who answers."""

from os import environ

from django.core.asgi import get_asgi_application

django = get_asgi_application()

from config.views import WHO  # noqa: E402 (settings must be loaded first)


async def echo(scope, receive, send):
    await receive()  # websocket.connect
    if scope["path"] != f"/{environ.get('APP_BELOW', '')}ws":
        await send({"type": "websocket.close", "code": 4404})
        return
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": WHO})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def application(scope, receive, send):
    await (echo if scope["type"] == "websocket" else django)(scope, receive, send)
