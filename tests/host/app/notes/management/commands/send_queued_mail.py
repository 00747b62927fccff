from notes.management.commands.tick import Command  # noqa: F401
