"""Uses FIELD_KEY: its sha256 is written down in the database, in the order of use."""

from hashlib import sha256
from os import environ

from django.core.management.base import BaseCommand
from django.db import connection


class Command(BaseCommand):
    def handle(self, *args, **options):
        used = sha256(environ["FIELD_KEY"].encode()).hexdigest()
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS used_key (n serial, key text)")
            cursor.execute("INSERT INTO used_key (key) VALUES (%s)", [used])
