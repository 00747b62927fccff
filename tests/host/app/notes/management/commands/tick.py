from django.core.management.base import BaseCommand

from notes.models import Note


class Command(BaseCommand):
    help = "Writes a row: what a cron job does."

    def handle(self, *args, **options):
        note = Note.objects.create(text="tick")
        self.stdout.write(f"tick {note.pk}")
