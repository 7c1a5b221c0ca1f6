"""Work on Ray, and checkpoints in a storage that its nodes share."""
