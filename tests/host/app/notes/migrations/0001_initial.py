from django.db import migrations, models


def write(apps, schema_editor):
    apps.get_model("notes", "Note").objects.create(text="migration 0001")


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            name="Note",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("text", models.TextField()),
                ("made_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.RunPython(write, migrations.RunPython.noop),
    ]
