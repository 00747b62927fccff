"""Calls services by name, 25 times a second each, and writes what it got to /data/NAME.json once a second."""
import collections
import http.client
import json
import os
import sys
import threading
import time


def call(name, number):
    connection = http.client.HTTPConnection(name, timeout=20)
    try:
        if number % 3:
            connection.request("GET", "/version")
        else:
            connection.request("POST", "/echo", body=f"{number}")
        answer = connection.getresponse()
        body = answer.read().decode()
        if answer.status != 200 or (number % 3 == 0 and body != f"{number}"):
            raise ValueError(f"{answer.status}: {body[:80]!r}")
        return body.strip() if number % 3 else None
    finally:
        connection.close()


def one(name, number, seen):
    try:
        version = call(name, number)
        if version:
            seen["versions"][version] += 1
        seen["answered"] += 1
    except Exception as error:
        seen["failed"] += 1
        seen["errors"].append(f"{number}: {error!r}")


def calls(name):
    seen = {"answered": 0, "failed": 0, "errors": [], "versions": collections.Counter()}
    number, begun = 0, time.monotonic()
    while True:
        threading.Thread(target=one, args=(name, number, seen), daemon=True).start()
        number += 1
        if number % 25 == 0:
            with open(f"/data/{name}.new", "w") as file:
                json.dump(seen, file)
            os.replace(f"/data/{name}.new", f"/data/{name}.json")
        time.sleep(max(0, begun + number * 0.04 - time.monotonic()))


for name in sys.argv[1:]:
    threading.Thread(target=calls, args=(name,), daemon=True).start()
time.sleep(1e6)
