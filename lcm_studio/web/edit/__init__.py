"""The Edit tab: one picture, many tools."""
