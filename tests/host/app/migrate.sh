#!/bin/sh
# With a FIELD_KEY the migration uses it, as one that encrypts a column would: which key it was is kept.
set -e
python3 /app/manage.py migrate --no-input
[ -z "$FIELD_KEY" ] || exec python3 /app/manage.py usekey
