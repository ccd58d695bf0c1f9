-- Schema version 4: what operators look back on, for the pages Overview, Pods and Recovery.

ALTER TABLE sample ADD COLUMN wait_p99_s REAL;
ALTER TABLE sample ADD COLUMN run_p99_s REAL;
ALTER TABLE sample ADD COLUMN pods TEXT;               -- JSON list of [pod_id, incarnation, running, capacity, silent_s]

ALTER TABLE recovery_run ADD COLUMN verdicts TEXT;     -- JSON list of [pod_id, incarnation, silent_s]: why it was dead
ALTER TABLE recovery_run ADD COLUMN statements INTEGER; -- asked of the store, without the writing of this row

CREATE INDEX decision_step ON recovery_decision (step_id);
CREATE INDEX decision_owner ON recovery_decision (owner);
