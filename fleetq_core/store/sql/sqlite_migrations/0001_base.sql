-- Schema version 1 of the embedded store. All *_ts are seconds since the epoch, UTC, by the store's clock.

CREATE TABLE step_tracker (
    step_id         TEXT PRIMARY KEY NOT NULL,  -- the idempotency key of submit
    task_type       TEXT NOT NULL,              -- payload.task_type, copied out for filters
    payload         TEXT NOT NULL,              -- JSON object
    priority        INTEGER NOT NULL,           -- higher first
    status          TEXT NOT NULL CHECK (status IN ('pending', 'claimed', 'completed', 'failed')),
    retry_count     INTEGER NOT NULL DEFAULT 0, -- requeues so far
    max_retries     INTEGER,                    -- NULL: the fleet's FLEET_Q_MAX_RETRIES
    claimed_by      TEXT,                       -- pod_id of the last claim
    incarnation     TEXT,                       -- incarnation of the last claim
    claim_token     TEXT,                       -- fencing token of the last claim
    created_ts      REAL NOT NULL,
    claimed_ts      REAL,
    finished_ts     REAL,
    last_update_ts  REAL NOT NULL,
    retry_ts        REAL,                       -- failed: when the leader may retry it; NULL = dead letter
    run_s           REAL,                       -- seconds the last attempt ran
    result          TEXT,                       -- JSON
    error           TEXT,
    history         TEXT,                       -- JSON list of the attempts that did not complete
    recovery_run_id TEXT                        -- the last recovery run that moved it
);
-- Ends in the ORDER BY columns of the claim, so that a claim costs the same whatever else is in the table.
CREATE INDEX step_pending ON step_tracker (priority DESC, created_ts, step_id) WHERE status = 'pending';
CREATE INDEX step_claimed ON step_tracker (incarnation, claim_token) WHERE status = 'claimed';
CREATE INDEX step_failed ON step_tracker (retry_ts, finished_ts) WHERE status = 'failed';
CREATE INDEX step_completed ON step_tracker (finished_ts) WHERE status = 'completed';
CREATE INDEX step_created ON step_tracker (created_ts, step_id);

CREATE TABLE pod_health (
    pod_id            TEXT PRIMARY KEY NOT NULL,
    incarnation       TEXT NOT NULL,            -- the process that owns this row now
    status            TEXT NOT NULL CHECK (status IN ('up', 'down')),
    birth_ts          REAL NOT NULL,            -- the oldest living pod leads
    last_heartbeat_ts REAL NOT NULL,
    may_lead          INTEGER NOT NULL,         -- 0: a client that claims but runs no leader loop
    meta              TEXT NOT NULL             -- JSON that the pod publishes with each beat
);

CREATE TABLE command_log (
    command_id TEXT PRIMARY KEY NOT NULL,
    kind       TEXT NOT NULL,
    target     TEXT NOT NULL,                   -- a pod_id, '*' or 'leader'
    args       TEXT NOT NULL,                   -- JSON object
    issued_by  TEXT NOT NULL,
    issued_ts  REAL NOT NULL
);
CREATE INDEX command_issued ON command_log (issued_ts);

CREATE TABLE command_answer (
    command_id TEXT NOT NULL,
    pod_id     TEXT NOT NULL,
    done_ts    REAL NOT NULL,
    ok         INTEGER NOT NULL,
    result     TEXT NOT NULL,
    PRIMARY KEY (command_id, pod_id)
);

CREATE TABLE recovery_run (
    run_id            TEXT PRIMARY KEY NOT NULL,
    leader_pod_id     TEXT NOT NULL,
    trigger           TEXT NOT NULL,            -- cycle | manual
    started_ts        REAL NOT NULL,
    finished_ts       REAL,                     -- NULL: the leader died before it could write the run down
    duration_s        REAL,
    dead_pods         TEXT NOT NULL,            -- JSON list of pod_ids judged dead in this run
    total_orphans     INTEGER NOT NULL,
    resubmitted       INTEGER NOT NULL,
    terminal_failures INTEGER NOT NULL,
    retried           INTEGER NOT NULL,         -- of the resubmitted: failed steps whose delay had passed
    held_off          INTEGER NOT NULL
);
CREATE INDEX recovery_started ON recovery_run (started_ts);

CREATE TABLE recovery_decision (
    run_id      TEXT NOT NULL,
    step_id     TEXT NOT NULL,
    cause       TEXT NOT NULL,                  -- orphan | failed
    action      TEXT NOT NULL,                  -- requeued | terminal
    owner       TEXT,
    retry_count INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    PRIMARY KEY (run_id, step_id)
);

CREATE TABLE sample (
    bucket          INTEGER PRIMARY KEY NOT NULL, -- sampled_ts in whole intervals: two leaders write one sample
    sampled_ts      REAL NOT NULL,
    interval_s      REAL NOT NULL,
    pending         INTEGER NOT NULL,
    claimed         INTEGER NOT NULL,
    completed       INTEGER NOT NULL,
    failed          INTEGER NOT NULL,
    submitted_delta INTEGER NOT NULL,
    completed_delta INTEGER NOT NULL,
    failed_delta    INTEGER NOT NULL,
    oldest_pending_s REAL,
    pods_alive      INTEGER NOT NULL,
    running         INTEGER NOT NULL,
    leader_pod_id   TEXT,
    wait_p50_s      REAL,
    wait_p95_s      REAL,
    run_p50_s       REAL,
    run_p95_s       REAL
);
CREATE INDEX sample_ts ON sample (sampled_ts);
