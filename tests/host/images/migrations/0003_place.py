from django.db import migrations

EXPAND = """
ALTER TABLE notes_note ADD COLUMN place text;
INSERT INTO notes_note (text, made_at) VALUES ('migration 0003', now());
"""


class Migration(migrations.Migration):
    dependencies = [("notes", "0002_mood")]
    operations = [
        migrations.RunSQL(EXPAND, "ALTER TABLE notes_note DROP COLUMN place")
    ]
