"""What every front door does with jobs and data sets, whichever way it is shown; nothing here prints."""
