"""The models package of Equipoise."""
