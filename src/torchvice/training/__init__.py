"""Step 1, training: the LightningModule, its schedules, and what leads from settings to a run's folder."""
