#!/bin/sh
exec python3 /app/manage.py migrate --no-input
