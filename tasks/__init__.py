"""One package per task; none knows another."""
