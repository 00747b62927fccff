"""Everything a host may change comes in as environment, as in a real deployment."""

from os import environ

SECRET_KEY = environ["SECRET_KEY"]
ALLOWED_HOSTS = [h for h in environ.get("ALLOWED_HOSTS", "").split(",") if h]
ROOT_URLCONF = "config.urls"
MIDDLEWARE = ["config.views.check_host"]
INSTALLED_APPS = ["notes"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": environ.get("DATABASE_HOST", "host.containers.internal"),
        "NAME": environ.get("DATABASE_NAME", "astra"),
        "USER": environ.get("DATABASE_USER", "astra"),
        "PASSWORD": environ.get("DATABASE_PASSWORD", ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        # A readiness probe must answer before its caller gives up.
        "OPTIONS": {"connect_timeout": 2},
    }
}
