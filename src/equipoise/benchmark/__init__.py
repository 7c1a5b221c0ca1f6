"""The benchmark package of Equipoise."""
