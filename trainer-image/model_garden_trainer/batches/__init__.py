"""From rows to tensors: rendering, labels, packing, and the split into training and evaluation rows."""
