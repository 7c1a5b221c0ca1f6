"""The problems package of Equipoise."""
