-- Schema version 5: the newest steps of a status, for the page Steps, however many there are.
-- Claimed steps need none: they are as few as the fleet has slots.

CREATE INDEX step_pending_newest ON step_tracker (created_ts, step_id) WHERE status = 'pending';
CREATE INDEX step_failed_newest ON step_tracker (created_ts, step_id) WHERE status = 'failed';
CREATE INDEX step_completed_newest ON step_tracker (created_ts, step_id) WHERE status = 'completed';
