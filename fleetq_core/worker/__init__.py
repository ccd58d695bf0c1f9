"""The working half of a pod: claim steps, run their handlers, settle the outcomes."""
