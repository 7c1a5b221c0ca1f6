"""The training package of Equipoise."""
