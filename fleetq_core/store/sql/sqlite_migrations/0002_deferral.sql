-- Schema version 2: a handler may hand its step back for a while.

ALTER TABLE step_tracker ADD COLUMN due_ts REAL;  -- pending: not to be claimed before; NULL = at once
ALTER TABLE step_tracker ADD COLUMN deferrals INTEGER NOT NULL DEFAULT 0;  -- how often it was handed back

DROP INDEX step_pending;
-- First what a claim asks to be NULL, then its ORDER BY, so that a claim costs the same whatever else is in the table;
-- last what it may skip.
CREATE INDEX step_pending ON step_tracker (due_ts, priority DESC, created_ts, step_id, task_type, status)
 WHERE status = 'pending';
