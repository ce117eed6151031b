"""Step 1, training: a LightningModule, its schedules and its run."""
