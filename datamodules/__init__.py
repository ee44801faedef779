"""Data sets as records and batches; no datamodule knows a model."""
