"""The search package of Equipoise."""
