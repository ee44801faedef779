"""Pictures: boxes drawn on radiographs, charts, and the report of a run."""
