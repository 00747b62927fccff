from django.db import migrations

# Raw SQL, so that the model stays as it is: old and new code both work with the new schema, like the "expand"
# half of every careful migration.
EXPAND = """
ALTER TABLE notes_note ADD COLUMN mood text;
INSERT INTO notes_note (text, made_at) VALUES ('migration 0002', now());
"""


class Migration(migrations.Migration):
    dependencies = [("notes", "0001_initial")]
    operations = [
        migrations.RunSQL(EXPAND, "ALTER TABLE notes_note DROP COLUMN mood")
    ]
