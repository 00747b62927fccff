from django.urls import path

from config import views

urlpatterns = [
    path("", views.index),
    path("count", views.count),
    path("echo", views.echo),
    path("slow", views.slow),
    path("sse", views.sse),
    path("readyz", views.readyz),
    path("version", views.version),
]
