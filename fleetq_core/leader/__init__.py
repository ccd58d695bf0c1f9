"""What the leading pod does for the fleet: recover, sample, retain. The leader is computed, never appointed."""
