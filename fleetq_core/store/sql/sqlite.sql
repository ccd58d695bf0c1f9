-- The statements of the embedded store, a block for each. :now is the store's clock, read after the write lock is held.

-- name: insert_steps
INSERT INTO step_tracker (step_id, task_type, payload, priority, max_retries, status, created_ts, last_update_ts)
VALUES (?, ?, ?, ?, ?, 'pending', ?, ?)
ON CONFLICT (step_id) DO NOTHING;

-- name: any_claimable
-- What a claim could take: :caps is a JSON list of [task_type, cap], and a type whose cap is 0 is passed over.
SELECT EXISTS (SELECT 1 FROM step_tracker WHERE status = 'pending' AND due_ts IS NULL
                  AND task_type NOT IN (SELECT value ->> 0 FROM json_each(:caps) WHERE value ->> 1 = 0))
    OR EXISTS (SELECT 1 FROM step_tracker WHERE status = 'pending' AND due_ts <= :now
                  AND task_type NOT IN (SELECT value ->> 0 FROM json_each(:caps) WHERE value ->> 1 = 0));

-- name: promote_due
-- Not a move: the step was pending and stays so. Bounded, and more than any claim takes.
UPDATE step_tracker SET due_ts = NULL
 WHERE rowid IN (SELECT rowid FROM step_tracker WHERE status = 'pending' AND due_ts <= :now LIMIT 1000);

-- name: claim_steps
-- Only a living pod claims, and one token claims once: a repeat after a lost reply changes nothing. What stands between
-- the two marks is replaced by claim_within where task types have caps.
UPDATE step_tracker
   SET status = 'claimed', claimed_by = :pod_id, incarnation = :incarnation, claim_token = :token,
       claimed_ts = :now, last_update_ts = :now
 WHERE status = 'pending'
   AND rowid IN (/*best*/ SELECT rowid FROM step_tracker WHERE status = 'pending' AND due_ts IS NULL
                  ORDER BY priority DESC, created_ts, step_id LIMIT :limit /*best*/)
   AND EXISTS (SELECT 1 FROM pod_health WHERE pod_id = :pod_id AND incarnation = :incarnation
                  AND status = 'up' AND last_heartbeat_ts > :now - :threshold)
   AND NOT EXISTS (SELECT 1 FROM step_tracker WHERE status = 'claimed'
                  AND incarnation = :incarnation AND claim_token = :token)
RETURNING step_id, task_type, payload, priority, retry_count, created_ts, claim_token, deferrals;

-- name: claim_within
-- :caps is a JSON list of [task_type, cap]. A number of steps is looked at that does not depend on how many there are.
SELECT best.id
  FROM (SELECT id, task_type, priority, created_ts, step_id, row_number() OVER (
               PARTITION BY task_type ORDER BY priority DESC, created_ts, step_id) AS place
          FROM (SELECT rowid AS id, task_type, priority, created_ts, step_id FROM step_tracker
                 WHERE status = 'pending' AND due_ts IS NULL
                   AND task_type NOT IN (SELECT value ->> 0 FROM json_each(:caps) WHERE value ->> 1 = 0)
                 ORDER BY priority DESC, created_ts, step_id LIMIT :limit + 200)) AS best
  LEFT JOIN json_each(:caps) AS c ON c.value ->> 0 = best.task_type
 WHERE c.key IS NULL OR place <= c.value ->> 1
 ORDER BY priority DESC, created_ts, step_id LIMIT :limit;

-- name: read_claim
SELECT step_id, task_type, payload, priority, retry_count, created_ts, claim_token, deferrals
  FROM step_tracker
 WHERE status = 'claimed' AND incarnation = :incarnation AND claim_token = :token;

-- name: settle_completed
-- :outcomes is a JSON list of [step_id, token, result, run_s]: one statement for a set, because each statement of an
-- executemany() would give the interpreter lock away to the handlers and wait to get it back.
UPDATE step_tracker AS s
   SET status = 'completed', result = o.value ->> 2, error = NULL, run_s = o.value ->> 3, retry_ts = NULL,
       finished_ts = :now, last_update_ts = :now
  FROM json_each(:outcomes) AS o
 WHERE s.step_id = o.value ->> 0 AND s.claim_token = o.value ->> 1 AND s.status = 'claimed';

-- name: settle_failed
-- :outcomes is a JSON list of [step_id, token, error, run_s, delay]. Without a delay, or with no retry left, retry_ts
-- stays NULL: a dead letter.
UPDATE step_tracker AS s
   SET status = 'failed', result = NULL, error = o.value ->> 2, run_s = o.value ->> 3,
       finished_ts = :now, last_update_ts = :now,
       retry_ts = CASE WHEN s.retry_count < COALESCE(s.max_retries, :max_retries) THEN :now + (o.value ->> 4) END,
       history = json_insert(COALESCE(s.history, '[]'), '$[#]', json_object(
           'attempt', s.retry_count + 1, 'outcome', 'failed', 'pod_id', s.claimed_by, 'claimed_ts', s.claimed_ts,
           'ended_ts', :now, 'run_s', o.value ->> 3, 'error', o.value ->> 2))
  FROM json_each(:outcomes) AS o
 WHERE s.step_id = o.value ->> 0 AND s.claim_token = o.value ->> 1 AND s.status = 'claimed';

-- name: settle_deferred
-- :outcomes is a JSON list of [step_id, token, reason, delay]. No entry in the history: there may be thousands. The token
-- stays, so that a repeat knows its own work, and the incarnation, which tells it from a failure that was retried.
UPDATE step_tracker AS s
   SET status = 'pending', due_ts = CASE WHEN o.value ->> 3 > 0 THEN :now + (o.value ->> 3) END,
       deferrals = s.deferrals + 1, error = o.value ->> 2, claimed_by = NULL, claimed_ts = NULL, last_update_ts = :now
  FROM json_each(:outcomes) AS o
 WHERE s.step_id = o.value ->> 0 AND s.claim_token = o.value ->> 1 AND s.status = 'claimed';

-- name: settled_already
-- A pair counts as written only in the state its own outcome leads to; recovery clears the token of what it takes away.
SELECT step_id, claim_token, CASE WHEN status <> 'pending' THEN status WHEN incarnation IS NULL THEN 'retried'
                                  ELSE 'deferred' END
  FROM step_tracker
 WHERE step_id IN (SELECT value FROM json_each(:step_ids));

-- name: release_steps
-- :claims is a JSON list of [step_id, token].
UPDATE step_tracker AS s
   SET status = 'pending', claimed_by = NULL, incarnation = NULL, claim_token = NULL, claimed_ts = NULL,
       last_update_ts = :now
  FROM json_each(:claims) AS c
 WHERE s.step_id = c.value ->> 0 AND s.claim_token = c.value ->> 1 AND s.status = 'claimed';

-- name: release_unknown
UPDATE step_tracker
   SET status = 'pending', claimed_by = NULL, incarnation = NULL, claim_token = NULL, claimed_ts = NULL,
       last_update_ts = :now
 WHERE status = 'claimed' AND incarnation = :incarnation AND claimed_ts < :before
   AND claim_token NOT IN (SELECT value FROM json_each(:known));

-- name: held_claims
SELECT step_id, claim_token FROM step_tracker WHERE status = 'claimed' AND incarnation = :incarnation;

-- name: requeue_steps
UPDATE step_tracker
   SET status = 'pending', retry_count = 0, claimed_by = NULL, incarnation = NULL, claim_token = NULL,
       claimed_ts = NULL, finished_ts = NULL, run_s = NULL, retry_ts = NULL, deferrals = 0, last_update_ts = :now,
       history = json_insert(COALESCE(history, '[]'), '$[#]', json_object('outcome', 'requeued', 'ended_ts', :now))
 WHERE status = 'failed' AND step_id IN (SELECT value FROM json_each(:step_ids))
RETURNING step_id;

-- name: cancel_steps
UPDATE step_tracker
   SET status = 'failed', error = :reason, finished_ts = :now, retry_ts = NULL, due_ts = NULL,
       last_update_ts = :now,
       history = json_insert(COALESCE(history, '[]'), '$[#]',
                             json_object('outcome', 'cancelled', 'ended_ts', :now, 'error', :reason))
 WHERE status = 'pending' AND step_id IN (SELECT value FROM json_each(:step_ids))
RETURNING step_id;

-- name: payloads_of
SELECT step_id, payload, priority FROM step_tracker WHERE step_id IN (SELECT value FROM json_each(:step_ids));

-- name: get_steps
SELECT * FROM step_tracker WHERE step_id IN (SELECT value FROM json_each(:step_ids));

-- name: find_steps
-- /*index*/ names the index of the status: the planner does not see that the newest of it need no sorting there.
SELECT * FROM step_tracker /*index*/
 WHERE /*where*/
 ORDER BY created_ts DESC, step_id DESC LIMIT :limit;

-- name: find_ids
SELECT step_id FROM step_tracker /*index*/
 WHERE /*where*/
 ORDER BY created_ts DESC, step_id DESC LIMIT :limit;

-- name: created_behind
SELECT min(created_ts), count(*)
  FROM (SELECT created_ts FROM step_tracker /*index*/
         WHERE /*where*/
         ORDER BY created_ts DESC, step_id DESC LIMIT :limit);

-- name: held_by_pod
SELECT claimed_by, incarnation, count(*), min(claimed_ts) FROM step_tracker
 WHERE status = 'claimed' GROUP BY incarnation, claimed_by ORDER BY claimed_by, incarnation;

-- name: stats
-- Completed steps are by far the most, and SQLite counts a whole table six times as fast as a part: they are the rest.
WITH part (pending, claimed, failed) AS MATERIALIZED (
    SELECT (SELECT count(*) FROM step_tracker WHERE status = 'pending'),
           (SELECT count(*) FROM step_tracker WHERE status = 'claimed'),
           (SELECT count(*) FROM step_tracker WHERE status = 'failed'))
SELECT pending, claimed, (SELECT count(*) FROM step_tracker) - pending - claimed - failed AS completed, failed,
       (SELECT count(*) FROM step_tracker WHERE status = 'failed' AND retry_ts IS NULL) AS dead_letters,
       -- Without its index named, the oldest would be sought among all rows in the order of their age.
       (SELECT min(created_ts) FROM step_tracker INDEXED BY step_pending
         WHERE status = 'pending' AND (due_ts IS NULL OR due_ts <= :now)) AS oldest_pending_ts,
       (SELECT count(*) FROM step_tracker WHERE status = 'pending' AND due_ts > :now) AS deferred,
       (SELECT count(*) FROM step_tracker WHERE status = 'failed' AND retry_ts <= :now) AS retry_due
  FROM part;

-- name: register_pod
-- The newcomer takes the row; a repeat by the same incarnation keeps its birth, and so its place in the line of leaders.
INSERT INTO pod_health (pod_id, incarnation, status, birth_ts, last_heartbeat_ts, may_lead, meta)
VALUES (:pod_id, :incarnation, 'up', :now, :now, :may_lead, :meta)
ON CONFLICT (pod_id) DO UPDATE
   SET incarnation = excluded.incarnation, status = 'up', last_heartbeat_ts = excluded.last_heartbeat_ts,
       may_lead = excluded.may_lead, meta = excluded.meta,
       birth_ts = CASE WHEN pod_health.incarnation = excluded.incarnation AND pod_health.status = 'up'
                       THEN pod_health.birth_ts ELSE excluded.birth_ts END;

-- name: read_pod
SELECT incarnation, status, birth_ts FROM pod_health WHERE pod_id = :pod_id;

-- name: beat
UPDATE pod_health SET last_heartbeat_ts = :now, status = 'up', meta = :meta
 WHERE pod_id = :pod_id AND incarnation = :incarnation;

-- name: leader
SELECT incarnation, pod_id FROM pod_health
 WHERE status = 'up' AND may_lead = 1 AND last_heartbeat_ts > :now - :threshold
 ORDER BY birth_ts, pod_id LIMIT 1;

-- name: throttle_plans
SELECT json_extract(meta, '$.throttle_plans') FROM pod_health WHERE incarnation = :leader;

-- name: throttle_reports
SELECT pod_id, json_extract(meta, '$.throttle_reports') FROM pod_health
 WHERE status = 'up' AND last_heartbeat_ts > :now - :threshold
   AND json_extract(meta, '$.throttle_reports') IS NOT NULL
 ORDER BY birth_ts, pod_id;

-- name: pause_state
SELECT kind FROM command_log
 WHERE kind IN ('pause', 'resume') AND target IN ('*', :pod_id)
 ORDER BY issued_ts DESC, command_id DESC LIMIT 1;

-- name: open_commands
-- A pod obeys what was ordered in its own lifetime; an order to the leader goes to whoever leads, once.
SELECT c.command_id, c.kind, c.target, c.args, c.issued_by, c.issued_ts
  FROM command_log c
 WHERE c.issued_ts > :now - 3600
   AND ((c.target IN ('*', :pod_id) AND c.issued_ts >= :birth
         AND NOT EXISTS (SELECT 1 FROM command_answer a WHERE a.command_id = c.command_id AND a.pod_id = :pod_id))
     OR (c.target = 'leader' AND :leads
         AND NOT EXISTS (SELECT 1 FROM command_answer a WHERE a.command_id = c.command_id)))
 ORDER BY c.issued_ts, c.command_id;

-- name: mark_down
UPDATE pod_health SET status = 'down' WHERE pod_id = :pod_id AND incarnation = :incarnation;

-- name: idle_look
SELECT EXISTS (SELECT 1 FROM step_tracker WHERE status = 'pending')
    OR EXISTS (SELECT 1 FROM step_tracker WHERE status = 'claimed')
    OR EXISTS (SELECT 1 FROM step_tracker WHERE status = 'failed' AND retry_ts IS NOT NULL),
       (SELECT MAX(issued_ts) FROM command_log), (SELECT MAX(last_heartbeat_ts) FROM pod_health);

-- name: list_pods
SELECT pod_id, incarnation, status, birth_ts, last_heartbeat_ts, may_lead, meta FROM pod_health ORDER BY birth_ts, pod_id;

-- name: insert_command
INSERT INTO command_log (command_id, kind, target, args, issued_by, issued_ts)
VALUES (:command_id, :kind, :target, :args, :issued_by, :now)
ON CONFLICT (command_id) DO NOTHING;

-- name: answer_command
INSERT INTO command_answer (command_id, pod_id, done_ts, ok, result)
VALUES (:command_id, :pod_id, :now, :ok, :result)
ON CONFLICT (command_id, pod_id) DO NOTHING;

-- name: list_commands
SELECT * FROM command_log ORDER BY issued_ts DESC, command_id DESC LIMIT :limit;

-- name: get_commands
SELECT * FROM command_log WHERE command_id IN (SELECT value FROM json_each(:command_ids))
 ORDER BY issued_ts DESC, command_id DESC LIMIT :limit;

-- name: answers_of
SELECT command_id, pod_id, done_ts, ok, result FROM command_answer
 WHERE command_id IN (SELECT value FROM json_each(:command_ids)) ORDER BY done_ts, pod_id;

-- name: recover_orphans
-- An orphan is a claim whose owner is not among the living. Death, leadership and status are judged in here, at once.
UPDATE step_tracker AS s
   SET status = CASE WHEN retry_count < COALESCE(max_retries, :max_retries) THEN 'pending' ELSE 'failed' END,
       retry_count = retry_count + (retry_count < COALESCE(max_retries, :max_retries)),
       error = why.reason || CASE WHEN retry_count < COALESCE(max_retries, :max_retries) THEN ''
                                  ELSE '; all ' || COALESCE(max_retries, :max_retries) || ' retries are used' END,
       history = json_insert(COALESCE(history, '[]'), '$[#]', json_object(
           'attempt', retry_count + 1, 'outcome', 'lost', 'pod_id', claimed_by, 'claimed_ts', claimed_ts,
           'ended_ts', :now, 'error', why.reason, 'recovery_run_id', :run_id)),
       finished_ts = CASE WHEN retry_count < COALESCE(max_retries, :max_retries) THEN NULL ELSE :now END,
       claimed_by = CASE WHEN retry_count < COALESCE(max_retries, :max_retries) THEN NULL ELSE claimed_by END,
       incarnation = NULL, claim_token = NULL, claimed_ts = NULL, retry_ts = NULL,
       last_update_ts = :now, recovery_run_id = :run_id
  FROM (SELECT o.rowid AS row_number,
               'pod ' || o.claimed_by || CASE
                   WHEN p.pod_id IS NULL THEN ' is not known to the fleet'
                   WHEN p.incarnation <> o.incarnation THEN ' was restarted'
                   WHEN p.status = 'down' THEN ' stopped or was declared dead'
                   ELSE ' sent no heartbeat for ' || CAST(:now - p.last_heartbeat_ts AS INTEGER) || ' s' END AS reason
          FROM step_tracker o LEFT JOIN pod_health p ON p.pod_id = o.claimed_by
         WHERE o.status = 'claimed'
           AND NOT EXISTS (SELECT 1 FROM pod_health alive
                            WHERE alive.pod_id = o.claimed_by AND alive.incarnation = o.incarnation
                              AND alive.status = 'up' AND alive.last_heartbeat_ts > :alive_after)
         LIMIT :limit) AS why
 WHERE s.rowid = why.row_number AND s.status = 'claimed'
   AND (SELECT incarnation FROM pod_health
         WHERE status = 'up' AND may_lead = 1 AND last_heartbeat_ts > :now - :threshold
         ORDER BY birth_ts, pod_id LIMIT 1) = :incarnation
RETURNING step_id, 'orphan', CASE status WHEN 'pending' THEN 'requeued' ELSE 'terminal' END,
          json_extract(history, '$[#-1].pod_id'), retry_count, error;

-- name: retry_failed
UPDATE step_tracker
   SET status = 'pending', retry_count = retry_count + 1, claimed_by = NULL, incarnation = NULL,
       claimed_ts = NULL, finished_ts = NULL, run_s = NULL, retry_ts = NULL,
       last_update_ts = :now, recovery_run_id = :run_id
 WHERE status = 'failed' AND retry_ts <= :now
   AND rowid IN (SELECT rowid FROM step_tracker WHERE status = 'failed' AND retry_ts <= :now
                  ORDER BY retry_ts LIMIT :limit)
   AND (SELECT incarnation FROM pod_health
         WHERE status = 'up' AND may_lead = 1 AND last_heartbeat_ts > :now - :threshold
         ORDER BY birth_ts, pod_id LIMIT 1) = :incarnation
RETURNING step_id, 'failed', 'requeued', json_extract(history, '$[#-1].pod_id'), retry_count, error;

-- name: bury_dead_pods
-- Comes after the orphans, though it need not: they are found by who is alive, not by who was seen dying.
UPDATE pod_health SET status = 'down'
 WHERE status = 'up' AND last_heartbeat_ts <= :alive_after
   AND (SELECT incarnation FROM pod_health
         WHERE status = 'up' AND may_lead = 1 AND last_heartbeat_ts > :now - :threshold
         ORDER BY birth_ts, pod_id LIMIT 1) = :incarnation
RETURNING pod_id, incarnation, :now - last_heartbeat_ts;

-- name: moved_in_run
-- All that a run did, for one that is asked for again. A step's history tells, whoever has claimed it since.
SELECT step_id, retry_count, error, history FROM step_tracker WHERE recovery_run_id = :run_id ORDER BY step_id;

-- name: open_recovery_run
INSERT INTO recovery_run (run_id, leader_pod_id, trigger, started_ts, dead_pods, total_orphans, resubmitted,
                          terminal_failures, retried, held_off, verdicts)
VALUES (:run_id, :pod_id, 'cycle', :now, :dead_pods, 0, 0, 0, 0, 0, :verdicts)
ON CONFLICT (run_id) DO NOTHING;

-- name: verdicts_of_run
SELECT verdicts FROM recovery_run WHERE run_id = :run_id;

-- name: save_recovery_run
INSERT INTO recovery_run (run_id, leader_pod_id, trigger, started_ts, finished_ts, duration_s, dead_pods,
                          total_orphans, resubmitted, terminal_failures, retried, held_off, verdicts, statements)
VALUES (:run_id, :leader_pod_id, :trigger, :started_ts, :finished_ts, :duration_s, :dead_pods,
        :total_orphans, :resubmitted, :terminal_failures, :retried, :held_off, :verdicts, :statements)
ON CONFLICT (run_id) DO UPDATE
   SET trigger = excluded.trigger, started_ts = excluded.started_ts, finished_ts = excluded.finished_ts,
       duration_s = excluded.duration_s, dead_pods = excluded.dead_pods, total_orphans = excluded.total_orphans,
       resubmitted = excluded.resubmitted, terminal_failures = excluded.terminal_failures,
       retried = excluded.retried, held_off = excluded.held_off, verdicts = excluded.verdicts,
       statements = excluded.statements
 WHERE recovery_run.finished_ts IS NULL;

-- name: save_decision
INSERT INTO recovery_decision (run_id, step_id, cause, action, owner, retry_count, reason)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id, step_id) DO NOTHING;

-- name: list_recovery_runs
SELECT * FROM recovery_run WHERE (:run_id IS NULL OR run_id = :run_id)
 ORDER BY started_ts DESC, run_id LIMIT :limit;

-- name: find_decisions
SELECT d.run_id, r.leader_pod_id, r.started_ts, d.step_id, d.cause, d.action, d.owner, d.retry_count, d.reason
  FROM recovery_decision d LEFT JOIN recovery_run r ON r.run_id = d.run_id
 WHERE /*where*/
 ORDER BY r.started_ts DESC, d.run_id, d.cause, d.step_id LIMIT :limit;

-- name: last_sample
SELECT max(sampled_ts) FROM sample;

-- name: sample_deltas
SELECT (SELECT count(*) FROM step_tracker WHERE created_ts > :since AND created_ts <= :now) AS submitted_delta,
       (SELECT count(*) FROM step_tracker WHERE status = 'completed' AND finished_ts > :since) AS completed_delta,
       (SELECT count(*) FROM step_tracker WHERE status = 'failed' AND finished_ts > :since) AS failed_delta,
       (SELECT count(*) FROM pod_health WHERE status = 'up' AND last_heartbeat_ts > :now - :threshold) AS pods_alive,
       (SELECT COALESCE(sum(CASE WHEN json_valid(meta) THEN json_extract(meta, '$.running_count') END), 0) FROM pod_health
         WHERE status = 'up' AND last_heartbeat_ts > :now - :threshold) AS running;

-- name: sample_times
SELECT claimed_ts - created_ts, run_s FROM step_tracker
 WHERE status = 'completed' AND finished_ts > :since ORDER BY finished_ts DESC LIMIT 1000;

-- name: insert_sample
INSERT INTO sample (bucket, sampled_ts, interval_s, pending, claimed, completed, failed, submitted_delta,
                    completed_delta, failed_delta, oldest_pending_s, pods_alive, running, leader_pod_id,
                    wait_p50_s, wait_p95_s, wait_p99_s, run_p50_s, run_p95_s, run_p99_s, pods)
VALUES (:bucket, :sampled_ts, :interval_s, :pending, :claimed, :completed, :failed, :submitted_delta,
        :completed_delta, :failed_delta, :oldest_pending_s, :pods_alive, :running, :leader_pod_id,
        :wait_p50_s, :wait_p95_s, :wait_p99_s, :run_p50_s, :run_p95_s, :run_p99_s, :pods)
ON CONFLICT (bucket) DO NOTHING;

-- name: work_history
SELECT CAST(sampled_ts / :width AS INTEGER) * :width AS start_ts, SUM(interval_s), SUM(submitted_delta),
       SUM(completed_delta), SUM(failed_delta), MAX(pending), MAX(claimed), MAX(failed), MAX(oldest_pending_s),
       AVG(wait_p50_s), MAX(wait_p95_s), MAX(wait_p99_s), AVG(run_p50_s), MAX(run_p95_s), MAX(run_p99_s)
  FROM sample WHERE sampled_ts >= :since GROUP BY start_ts ORDER BY start_ts;

-- name: list_pod_samples
SELECT sampled_ts, leader_pod_id, pods FROM sample
 WHERE sampled_ts >= :since AND bucket % :every = 0 AND pods IS NOT NULL ORDER BY sampled_ts;

-- name: list_samples
SELECT sampled_ts, interval_s, pending, claimed, completed, failed, submitted_delta, completed_delta, failed_delta,
       oldest_pending_s, pods_alive, running, leader_pod_id, wait_p50_s, wait_p95_s, wait_p99_s, run_p50_s, run_p95_s,
       run_p99_s
  FROM sample WHERE sampled_ts >= :since ORDER BY sampled_ts DESC LIMIT :limit;

-- name: purge_completed
DELETE FROM step_tracker WHERE rowid IN (
    SELECT rowid FROM step_tracker WHERE status = 'completed' AND finished_ts < :completed_before LIMIT :limit);

-- name: purge_failed
DELETE FROM step_tracker WHERE rowid IN (
    SELECT rowid FROM step_tracker
     WHERE status = 'failed' AND retry_ts IS NULL AND finished_ts < :failed_before LIMIT :limit);

-- name: purge_samples
DELETE FROM sample WHERE rowid IN (SELECT rowid FROM sample WHERE sampled_ts < :completed_before LIMIT :limit);

-- name: purge_decisions
DELETE FROM recovery_decision WHERE run_id IN (
    SELECT run_id FROM recovery_run WHERE started_ts < :failed_before LIMIT :limit);

-- name: purge_runs
DELETE FROM recovery_run WHERE started_ts < :failed_before
   AND run_id NOT IN (SELECT run_id FROM recovery_decision);

-- name: purge_commands
-- The newest pause or resume of each target is state, not history: it stays.
DELETE FROM command_log WHERE rowid IN (
    SELECT rowid FROM command_log c WHERE issued_ts < :failed_before
       AND NOT (kind IN ('pause', 'resume') AND NOT EXISTS (
           SELECT 1 FROM command_log newer WHERE newer.kind IN ('pause', 'resume')
              AND newer.target = c.target AND newer.issued_ts > c.issued_ts))
     LIMIT :limit);

-- name: purge_answers
DELETE FROM command_answer WHERE command_id NOT IN (SELECT command_id FROM command_log);

-- name: purge_pods
-- A pod leaves the record a day after its last beat, and never while it owns something.
DELETE FROM pod_health WHERE last_heartbeat_ts < :now - 86400
   AND NOT EXISTS (SELECT 1 FROM step_tracker s WHERE s.status = 'claimed' AND s.claimed_by = pod_health.pod_id);

-- name: insert_throttle_samples
-- What pods publish may be another version's, or nonsense: only what has the right type counts, the rest is left out.
INSERT INTO throttle_sample (bucket, name, pod_id, sampled_ts, max_calls, in_flight, waiting, p95_s, baseline_s,
                             requests, refused, timeouts, fleet_limit)
SELECT :bucket, t.key, p.pod_id, :now,
       max(f.value) FILTER (WHERE f.key = 'max_inflight' AND f.type = 'integer'),
       max(f.value) FILTER (WHERE f.key = 'current_inflight' AND f.type = 'integer'),
       max(f.value) FILTER (WHERE f.key = 'waiting' AND f.type = 'integer'),
       max(f.value) FILTER (WHERE f.key = 'current_p95_latency'),
       max(f.value) FILTER (WHERE f.key = 'baseline_latency'),
       max(f.value) FILTER (WHERE f.key = 'total_requests' AND f.type = 'integer'),
       max(f.value) FILTER (WHERE f.key = 'total_throttles' AND f.type = 'integer'),
       max(f.value) FILTER (WHERE f.key = 'total_timeouts' AND f.type = 'integer'),
       max(f.value) FILTER (WHERE f.key = 'fleet_limit' AND f.type = 'integer')
  FROM pod_health p
  JOIN json_each(CASE WHEN json_valid(p.meta) THEN p.meta ELSE '{}' END, '$.throttles') t
  LEFT JOIN json_each(CASE WHEN t.type = 'object' THEN t.value ELSE '{}' END) f
    ON f.type IN ('integer', 'real') AND f.value BETWEEN 0 AND 1e12
 WHERE p.status = 'up' AND p.last_heartbeat_ts > :now - :threshold AND t.type = 'object' AND typeof(t.key) = 'text'
 GROUP BY p.pod_id, t.key
ON CONFLICT (bucket, name, pod_id) DO NOTHING;

-- name: insert_throttle_changes
-- A run may grow after it was written; and when its beginning has left the pod's log, the rest is still that run.
INSERT INTO throttle_change (incarnation, name, n, pod_id, at_ts, before, after, reason, times)
SELECT told.incarnation, told.name, COALESCE(known.n, told.n), told.pod_id, told.at_ts, told.before, told.after,
       told.reason, told.n + told.times - COALESCE(known.n, told.n)
  FROM (SELECT p.incarnation, p.pod_id, t.key AS name,
               max(f.value) FILTER (WHERE f.key = 'n' AND f.type = 'integer') AS n,
               p.last_heartbeat_ts - max(f.value) FILTER (WHERE f.key = 'ago_s') AS at_ts,
               max(f.value) FILTER (WHERE f.key = 'before' AND f.type = 'integer') AS before,
               max(f.value) FILTER (WHERE f.key = 'after' AND f.type = 'integer') AS after,
               max(f.value) FILTER (WHERE f.key = 'reason') AS reason,
               max(f.value) FILTER (WHERE f.key = 'times' AND f.type = 'integer') AS times
          FROM pod_health p
          JOIN json_each(CASE WHEN json_valid(p.meta) THEN p.meta ELSE '{}' END, '$.throttles') t
          JOIN json_each(CASE WHEN t.type = 'object' THEN t.value ELSE '{}' END, '$.changes') c
          JOIN json_each(CASE WHEN c.type = 'object' THEN c.value ELSE '{}' END) f
            ON CASE f.key WHEN 'reason' THEN f.type = 'text' AND length(f.value) <= 40
                          ELSE f.type IN ('integer', 'real') AND f.value BETWEEN 0 AND 1e12 END
         WHERE p.status = 'up' AND p.last_heartbeat_ts > :now - :threshold AND typeof(t.key) = 'text'
         GROUP BY p.incarnation, t.key, c.key) AS told
  LEFT JOIN throttle_change known
    ON known.rowid = (SELECT k.rowid FROM throttle_change k
                       WHERE k.incarnation = told.incarnation AND k.name = told.name AND k.n <= told.n
                       ORDER BY k.n DESC LIMIT 1)
   AND known.n + known.times > told.n AND known.reason = told.reason
 WHERE told.n IS NOT NULL AND told.at_ts IS NOT NULL AND told.before IS NOT NULL AND told.after IS NOT NULL
   AND told.reason IS NOT NULL AND told.times > 0
ON CONFLICT (incarnation, name, n) DO UPDATE
   SET after = excluded.after, times = excluded.times, at_ts = excluded.at_ts
 WHERE excluded.times > throttle_change.times;

-- name: insert_throttle_plans
-- A plan's epoch rises with every change of the fleet's limit; those between two samples are told as one.
INSERT INTO throttle_change (incarnation, name, n, pod_id, at_ts, before, after, reason, times)
SELECT '*' || told.incarnation, told.name, told.epoch, '*', told.at_ts, known.after, told.after, told.reason,
       max(1, told.epoch - COALESCE(known.n, told.epoch))
  FROM (SELECT p.incarnation, p.last_heartbeat_ts AS at_ts, t.key AS name,
               max(f.value) FILTER (WHERE f.key = 'epoch') AS epoch,
               max(f.value) FILTER (WHERE f.key = 'limit') AS after,
               max(f.value) FILTER (WHERE f.key = 'reason') AS reason
          FROM pod_health p
          JOIN json_each(CASE WHEN json_valid(p.meta) THEN p.meta ELSE '{}' END, '$.throttle_plans') t
          JOIN json_each(CASE WHEN t.type = 'object' THEN t.value ELSE '{}' END) f
            ON CASE f.key WHEN 'reason' THEN f.type = 'text' AND length(f.value) <= 40
                          ELSE f.type = 'integer' AND f.value BETWEEN 0 AND 1e12 END
         WHERE p.incarnation = :incarnation AND typeof(t.key) = 'text'
         GROUP BY p.incarnation, t.key) AS told
  LEFT JOIN throttle_change known
    ON known.rowid = (SELECT k.rowid FROM throttle_change k WHERE k.name = told.name AND k.pod_id = '*'
                       ORDER BY k.at_ts DESC LIMIT 1)
 WHERE told.epoch IS NOT NULL AND told.after IS NOT NULL AND told.reason IS NOT NULL
   AND known.after IS NOT told.after
ON CONFLICT (incarnation, name, n) DO NOTHING;

-- name: list_throttle_samples
SELECT name, pod_id, sampled_ts, max_calls, in_flight, waiting, p95_s, baseline_s, requests, refused, timeouts,
       fleet_limit
  FROM throttle_sample WHERE sampled_ts >= :since AND (:throttle IS NULL OR name = :throttle)
 ORDER BY sampled_ts DESC, name, pod_id LIMIT :limit;

-- name: list_throttle_changes
SELECT name, pod_id, incarnation, n, at_ts, before, after, reason, times
  FROM throttle_change WHERE at_ts >= :since AND (:throttle IS NULL OR name = :throttle)
 ORDER BY at_ts DESC, name, pod_id, n DESC LIMIT :limit;

-- name: purge_throttles
-- By age, and by number too: how fast this grows is up to how many throttles and pods there are.
DELETE FROM throttle_sample WHERE rowid IN (
    SELECT rowid FROM throttle_sample
     WHERE sampled_ts < max(:completed_before, COALESCE((
           SELECT sampled_ts FROM throttle_sample ORDER BY sampled_ts DESC LIMIT 1 OFFSET 500000), 0))
     LIMIT :limit);

-- name: purge_changes
DELETE FROM throttle_change WHERE rowid IN (
    SELECT rowid FROM throttle_change
     WHERE at_ts < max(:completed_before, COALESCE((
           SELECT at_ts FROM throttle_change ORDER BY at_ts DESC LIMIT 1 OFFSET 100000), 0))
     LIMIT :limit);
