"""The report package of Equipoise."""
