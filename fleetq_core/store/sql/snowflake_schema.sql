-- FLEET-Q on Snowflake: tables and data dictionary, schema version 4.
--
-- As it stands this is the standard-table form, and it may be run again at any time. The hybrid-table form (row locks,
-- enforced keys, indexes; AWS and Azure only, not in trial accounts) is the same text with HYBRID and the indexes in
-- force: `fleetq schema --tables hybrid` prints it, `--apply` runs it. Run it once, as an operator, before the first
-- pod starts, and again with each new version: what older tables lack is added at the end. Pods only look whether the
-- version is theirs. docs/snowflake.md has the grants.
--
-- All *_ts are TIMESTAMP_NTZ in UTC, written by SYSDATE(), the database's own clock, with microseconds. JSON is kept as
-- text, exactly as it was submitted; PARSE_JSON(payload) reads it. Standard tables do not enforce primary keys: the
-- statements of FLEET-Q see to it themselves.

CREATE /*HYBRID*/ TABLE IF NOT EXISTS step_tracker (
    step_id         VARCHAR(200) NOT NULL COMMENT 'The name of the step, and the idempotency key of its submit.',
    task_type       VARCHAR(1000) NOT NULL COMMENT 'Which handler runs it: task_type of the payload, copied out for filters.',
    payload         VARCHAR NOT NULL COMMENT 'What the handler gets: a JSON object, as text.',
    priority        INTEGER NOT NULL COMMENT 'Which steps are claimed first: the higher ones.',
    status          VARCHAR(16) NOT NULL COMMENT 'Where the step is: pending, claimed, completed or failed.',
    retry_count     INTEGER NOT NULL COMMENT 'How often the step was requeued after a failure or the death of its pod.',
    max_retries     INTEGER COMMENT 'How often it may be; NULL is what FLEET_Q_MAX_RETRIES says.',
    claimed_by      VARCHAR(200) COMMENT 'The pod_id of the last claim.',
    incarnation     VARCHAR(64) COMMENT 'The process of the last claim: a pod that was restarted is another one.',
    claim_token     VARCHAR(64) COMMENT 'The fencing token of the last claim; an outcome is taken only under it.',
    created_ts      TIMESTAMP_NTZ(6) NOT NULL COMMENT 'When the step was submitted.',
    claimed_ts      TIMESTAMP_NTZ(6) COMMENT 'When it was claimed last.',
    finished_ts     TIMESTAMP_NTZ(6) COMMENT 'When it completed or failed.',
    last_update_ts  TIMESTAMP_NTZ(6) NOT NULL COMMENT 'When its row was written last.',
    retry_ts        TIMESTAMP_NTZ(6) COMMENT 'Failed: when the leader may retry it; NULL is a dead letter.',
    run_s           FLOAT COMMENT 'How many seconds the last attempt ran.',
    result          VARCHAR COMMENT 'What the handler returned: JSON, as text.',
    error           VARCHAR COMMENT 'Why the last attempt failed, was lost or was handed back.',
    history         VARCHAR COMMENT 'The attempts that did not complete: a JSON list, as text.',
    recovery_run_id VARCHAR(64) COMMENT 'The last recovery run that moved the step.',
    due_ts          TIMESTAMP_NTZ(6) COMMENT 'Pending: not to be claimed before; NULL is at once.',
    deferrals       INTEGER NOT NULL COMMENT 'How often its handler handed the step back for a while.',
    write_token     VARCHAR(64) COMMENT 'The last submit, requeue or cancel of the step, which reads back by it what it moved.',
    PRIMARY KEY (step_id) --hybrid , INDEX step_pending (status, due_ts, priority, created_ts, step_id), INDEX step_claimed (status, incarnation, claim_token), INDEX step_finished (status, finished_ts), INDEX step_retry (status, retry_ts), INDEX step_created (created_ts, step_id), INDEX step_written (write_token), INDEX step_recovered (recovery_run_id)
) COMMENT = 'The queue: one row for each step of work.';

CREATE /*HYBRID*/ TABLE IF NOT EXISTS pod_health (
    pod_id            VARCHAR(200) NOT NULL COMMENT 'The name of the pod.',
    incarnation       VARCHAR(64) NOT NULL COMMENT 'The process that owns this row now.',
    status            VARCHAR(8) NOT NULL COMMENT 'Whether the pod is up, or down because it stopped or was declared dead.',
    birth_ts          TIMESTAMP_NTZ(6) NOT NULL COMMENT 'When the process registered; the oldest living pod leads.',
    last_heartbeat_ts TIMESTAMP_NTZ(6) NOT NULL COMMENT 'When it was heard of last; silence for too long is death.',
    may_lead          INTEGER NOT NULL COMMENT 'Whether it may lead: 0 is a client that claims but runs no leader loop.',
    meta              VARCHAR NOT NULL COMMENT 'What the pod publishes with each heartbeat: a JSON object, as text.',
    PRIMARY KEY (pod_id)
) COMMENT = 'The fleet: one row for each pod.';

CREATE /*HYBRID*/ TABLE IF NOT EXISTS command_log (
    command_id VARCHAR(64) NOT NULL COMMENT 'The name of the command.',
    kind       VARCHAR(100) NOT NULL COMMENT 'What is ordered.',
    target     VARCHAR(200) NOT NULL COMMENT 'Who is to do it: a pod_id, * for all, or leader.',
    args       VARCHAR NOT NULL COMMENT 'Arguments: a JSON object, as text.',
    issued_by  VARCHAR(1000) NOT NULL COMMENT 'Who ordered it.',
    issued_ts  TIMESTAMP_NTZ(6) NOT NULL COMMENT 'When it was ordered.',
    PRIMARY KEY (command_id) --hybrid , INDEX command_issued (issued_ts)
) COMMENT = 'What operators have ordered: the way to reach a pod, and the audit log.';

CREATE /*HYBRID*/ TABLE IF NOT EXISTS command_answer (
    command_id VARCHAR(64) NOT NULL COMMENT 'The command.',
    pod_id     VARCHAR(200) NOT NULL COMMENT 'The pod that answers.',
    done_ts    TIMESTAMP_NTZ(6) NOT NULL COMMENT 'When it answered.',
    ok         INTEGER NOT NULL COMMENT 'Whether it did what was ordered: 1 or 0.',
    result     VARCHAR NOT NULL COMMENT 'What it says about it.',
    PRIMARY KEY (command_id, pod_id)
) COMMENT = 'What pods did about commands.';

CREATE /*HYBRID*/ TABLE IF NOT EXISTS recovery_run (
    run_id            VARCHAR(64) NOT NULL COMMENT 'The name of the run.',
    leader_pod_id     VARCHAR(200) NOT NULL COMMENT 'The pod that led it.',
    trigger_kind      VARCHAR(16) NOT NULL COMMENT 'Why it ran: cycle or manual.',
    started_ts        TIMESTAMP_NTZ(6) NOT NULL COMMENT 'When it began.',
    finished_ts       TIMESTAMP_NTZ(6) COMMENT 'When it ended; NULL is a leader that died before it could write the run down.',
    duration_s        FLOAT COMMENT 'How many seconds it took.',
    dead_pods         VARCHAR NOT NULL COMMENT 'The pods it declared dead: a JSON list of pod_ids, as text.',
    total_orphans     INTEGER NOT NULL COMMENT 'How many claims had lost their pod.',
    resubmitted       INTEGER NOT NULL COMMENT 'How many steps it gave back to the queue.',
    terminal_failures INTEGER NOT NULL COMMENT 'How many steps it ended for good.',
    retried           INTEGER NOT NULL COMMENT 'How many of the resubmitted were failures whose delay had passed.',
    held_off          INTEGER NOT NULL COMMENT 'Whether silent pods were spared, because the store had been away: 1 or 0.',
    verdicts          VARCHAR COMMENT 'Why pods were dead: a JSON list of [pod_id, incarnation, silent_s], as text.',
    statements        INTEGER COMMENT 'How many statements it took, without the writing of this row.',
    PRIMARY KEY (run_id) --hybrid , INDEX recovery_started (started_ts)
) COMMENT = 'Recovery runs that did something, or that a person asked for.';

CREATE TABLE IF NOT EXISTS recovery_decision (
    run_id      VARCHAR(64) NOT NULL COMMENT 'The recovery run.',
    step_id     VARCHAR(200) NOT NULL COMMENT 'The step.',
    cause       VARCHAR(16) NOT NULL COMMENT 'Why it came up: orphan or failed.',
    action      VARCHAR(16) NOT NULL COMMENT 'What was done: requeued or terminal.',
    owner       VARCHAR(200) COMMENT 'The pod that had it.',
    retry_count INTEGER NOT NULL COMMENT 'Its retries after the decision.',
    reason      VARCHAR NOT NULL COMMENT 'The reason, in words.',
    PRIMARY KEY (run_id, step_id)
) COMMENT = 'What each recovery run decided for each step.';

CREATE TABLE IF NOT EXISTS fleet_sample (
    bucket           INTEGER NOT NULL COMMENT 'The time in whole sample intervals: two leaders write one sample.',
    sampled_ts       TIMESTAMP_NTZ(6) NOT NULL COMMENT 'When the leader looked.',
    interval_s       FLOAT NOT NULL COMMENT 'Seconds since the sample before; the deltas count these.',
    pending          INTEGER NOT NULL COMMENT 'Steps that wait.',
    claimed          INTEGER NOT NULL COMMENT 'Steps that pods have.',
    completed        INTEGER NOT NULL COMMENT 'Steps that are done.',
    failed           INTEGER NOT NULL COMMENT 'Steps that failed, for good or until their retry.',
    submitted_delta  INTEGER NOT NULL COMMENT 'Steps submitted since the sample before.',
    completed_delta  INTEGER NOT NULL COMMENT 'Steps completed since.',
    failed_delta     INTEGER NOT NULL COMMENT 'Steps failed since.',
    oldest_pending_s FLOAT COMMENT 'How long the oldest step that may be claimed has waited.',
    pods_alive       INTEGER NOT NULL COMMENT 'Pods heard of within the threshold.',
    running          INTEGER NOT NULL COMMENT 'Handlers that ran in them.',
    leader_pod_id    VARCHAR(200) COMMENT 'The pod that led.',
    wait_p50_s       FLOAT COMMENT 'Half of the steps completed since waited at most this long.',
    wait_p95_s       FLOAT COMMENT '95 of 100 waited at most this long.',
    run_p50_s        FLOAT COMMENT 'Half of them ran at most this long.',
    run_p95_s        FLOAT COMMENT '95 of 100 ran at most this long.',
    wait_p99_s       FLOAT COMMENT '99 of 100 waited at most this long.',
    run_p99_s        FLOAT COMMENT '99 of 100 ran at most this long.',
    pods             VARCHAR COMMENT 'The living pods: a JSON list of [pod_id, incarnation, running, capacity, silent_s].',
    PRIMARY KEY (bucket)
) COMMENT = 'The fleet over time, written by the leader for charts.';

CREATE TABLE IF NOT EXISTS throttle_sample (
    bucket      INTEGER NOT NULL COMMENT 'The time in whole sample intervals, as in fleet_sample.',
    name        VARCHAR(1000) NOT NULL COMMENT 'The throttle.',
    pod_id      VARCHAR(200) NOT NULL COMMENT 'The pod that published the figures; NULL in one: it did not.',
    sampled_ts  TIMESTAMP_NTZ(6) NOT NULL COMMENT 'When the leader looked.',
    max_calls   INTEGER COMMENT 'The limit: calls that may run at once.',
    in_flight   INTEGER COMMENT 'Calls that ran.',
    waiting     INTEGER COMMENT 'Callers without a slot.',
    p95_s       FLOAT COMMENT 'Latency of answered calls: 95 of 100 were faster.',
    baseline_s  FLOAT COMMENT 'The usual value of that.',
    requests    INTEGER COMMENT 'Calls since the process started or the throttle was reset.',
    refused     INTEGER COMMENT 'Those that the other side refused.',
    timeouts    INTEGER COMMENT 'Those that got no slot in time.',
    fleet_limit INTEGER COMMENT 'The limit of all pods together, for a throttle that they share.',
    PRIMARY KEY (bucket, name, pod_id)
) COMMENT = 'What throttles did over time, as pods published it.';

CREATE TABLE IF NOT EXISTS throttle_change (
    incarnation  VARCHAR(80) NOT NULL COMMENT 'The process that says so.',
    name         VARCHAR(1000) NOT NULL COMMENT 'The throttle.',
    n            INTEGER NOT NULL COMMENT 'The number of the first change of the run, from 0 since the process started.',
    pod_id       VARCHAR(200) NOT NULL COMMENT 'The pod; * is the limit of the fleet, and n then the epoch of its plan.',
    at_ts        TIMESTAMP_NTZ(6) NOT NULL COMMENT 'When the run changed last.',
    limit_before INTEGER COMMENT 'The limit before; NULL is not known.',
    limit_after  INTEGER NOT NULL COMMENT 'The limit after.',
    reason       VARCHAR(200) NOT NULL COMMENT 'Why it moved.',
    times        INTEGER NOT NULL COMMENT 'How many like changes the run stands for.',
    PRIMARY KEY (incarnation, name, n)
) COMMENT = 'Why limits of throttles moved.';

CREATE TABLE IF NOT EXISTS fleetq_schema (
    version    INTEGER NOT NULL COMMENT 'The version of these tables; pods of another version refuse to start.',
    tables     VARCHAR(16) NOT NULL COMMENT 'Their kind: standard or hybrid.',
    applied_ts TIMESTAMP_NTZ(6) NOT NULL COMMENT 'When they were created.',
    PRIMARY KEY (version)
) COMMENT = 'Which version of the tables is here; the highest counts.';

-- What tables of version 3 lack.
ALTER TABLE fleet_sample ADD COLUMN IF NOT EXISTS wait_p99_s FLOAT;
ALTER TABLE fleet_sample ADD COLUMN IF NOT EXISTS run_p99_s FLOAT;
ALTER TABLE fleet_sample ADD COLUMN IF NOT EXISTS pods VARCHAR;
ALTER TABLE recovery_run ADD COLUMN IF NOT EXISTS verdicts VARCHAR;
ALTER TABLE recovery_run ADD COLUMN IF NOT EXISTS statements INTEGER;

MERGE INTO fleetq_schema USING (SELECT 4 AS new_version, /*kind*/ 'standard' AS new_tables) AS this_text
   ON fleetq_schema.version = this_text.new_version
 WHEN NOT MATCHED THEN INSERT (version, tables, applied_ts)
      VALUES (this_text.new_version, this_text.new_tables, SYSDATE());
