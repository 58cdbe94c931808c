"""One model on one device: decide (scheduler), compute (runner), remember (sequence)."""
