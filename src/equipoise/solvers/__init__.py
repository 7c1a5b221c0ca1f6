"""The solvers package of Equipoise."""
