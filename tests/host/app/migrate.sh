#!/bin/sh
# If FIELD_KEY is set, the migration uses it as if to encrypt a column, and records which key it was.
set -e
python3 /app/manage.py migrate --no-input
[ -z "$FIELD_KEY" ] || exec python3 /app/manage.py usekey
