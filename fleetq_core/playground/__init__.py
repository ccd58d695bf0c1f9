"""A downstream that is not there: to watch a throttle learn, on a virtual clock or with real steps."""
