"""A worker: takes jobs from the list `jobs` in Redis, and appends each finished one to `done`. A job is a number of
seconds. SIGTERM ends it after the job at hand."""

import signal
import sys
import time

import redis

stopping = False


def stop(*_):
    global stopping
    stopping = True


signal.signal(signal.SIGTERM, stop)
print("works", flush=True)
while not stopping:
    try:
        job = redis.ask("LPOP", "jobs")
    except OSError as error:
        print(f"waiting for redis: {error}", flush=True)
        time.sleep(0.5)
        continue
    if job is None:
        time.sleep(0.1)
        continue
    time.sleep(float(job.split(":")[-1]))
    redis.ask("RPUSH", "done", job)
print("finished its job", flush=True)
sys.exit(0)
