"""What FLEET-Q costs, measured side by side in one run: ratios of medians, never a single absolute time."""
