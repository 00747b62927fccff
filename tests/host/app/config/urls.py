from os import environ

from django.urls import include, path

from config import views

routes = [
    path("", views.index),
    path("count", views.count),
    path("echo", views.echo),
    path("slow", views.slow),
    path("sse", views.sse),
    path("readyz", views.readyz),
    # As other frameworks call it.
    path("actuator/health", views.readyz),
    path("health", views.readyz),
    path("version", views.version),
]
# APP_BELOW: "api/", for an app below a path of the site.
below = environ.get("APP_BELOW", "")
urlpatterns = [path(below, include(routes))] if below else routes
