from django.urls import path

from config import views

urlpatterns = [
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
