"""From rows in files to examples, checked and measured. No torch here: ``model-garden validate`` runs it too."""
