"""What every front door does with TrainingJobs and data sets. Nothing here prints; errors are typed (``errors``)."""
