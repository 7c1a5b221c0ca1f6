"""The data package of Equipoise."""
