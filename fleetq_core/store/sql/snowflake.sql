-- The statements of the Snowflake store, a block for each, each run as one autocommit transaction.
--
-- Time is SYSDATE(), the database's, in UTC. Sets come in as one JSON text, because array binding serves INSERT only.
-- Snowflake has no RETURNING: a write tags its rows with a token and they are read back by it. It enforces no key on
-- standard tables, and does not say whether a statement that waited for a lock looks again at what the other one wrote:
-- so a guard stands where rows are chosen and again where they are written. Subqueries are derived tables and joins,
-- since correlated ones are supported in part only.

-- name: schema_version
SELECT version, tables FROM fleetq_schema ORDER BY version DESC LIMIT 1;

-- name: now
SELECT SYSDATE();

-- name: insert_steps
-- :steps is a JSON list of [step_id, task_type, payload, priority, max_retries].
MERGE INTO step_tracker USING (
    SELECT f.value[0]::VARCHAR AS new_id, f.value[1]::VARCHAR AS new_type, f.value[2]::VARCHAR AS new_payload,
           f.value[3]::INTEGER AS new_priority, f.value[4]::INTEGER AS new_max
      FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:steps))) AS f) AS submitted
   ON step_tracker.step_id = submitted.new_id
 WHEN NOT MATCHED THEN INSERT (step_id, task_type, payload, priority, max_retries, status, retry_count, deferrals,
                               created_ts, last_update_ts, write_token)
      VALUES (submitted.new_id, submitted.new_type, submitted.new_payload, submitted.new_priority, submitted.new_max,
              'pending', 0, 0, SYSDATE(), SYSDATE(), :token);

-- name: doubled_steps
-- Standard tables enforce no key: whether another submit of the same id got in at the same moment.
SELECT step_id FROM step_tracker
 WHERE step_id IN (SELECT f.value::VARCHAR FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:step_ids))) AS f)
 GROUP BY step_id HAVING COUNT(*) > 1;

-- name: drop_doubles
-- Of two copies the one that has moved on stays, else the one with the smaller token: all submits agree on it. With
-- :token only a copy of that submit goes, without it any.
DELETE FROM step_tracker USING (
    SELECT step_id AS double_id, COUNT(CASE WHEN status <> 'pending' THEN 1 END) AS moved, MIN(write_token) AS least
      FROM step_tracker
     WHERE step_id IN (SELECT f.value::VARCHAR FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:step_ids))) AS f)
     GROUP BY step_id HAVING COUNT(*) > 1) AS copies
 WHERE step_tracker.step_id = copies.double_id AND step_tracker.status = 'pending'
   AND (copies.moved > 0 OR step_tracker.write_token > copies.least)
   AND (:token IS NULL OR step_tracker.write_token = :token);

-- name: any_pending
-- The same text each time and no clock in it: on standard tables an unchanged queue answers from the result cache,
-- without a warehouse.
SELECT COUNT(*) FROM step_tracker WHERE status = 'pending';

-- name: best_steps
-- What a claim may take, the best first. Only a living pod claims, and one token claims once: :held is how many it has
-- taken so far. :caps is a JSON list of [task_type, cap]; a type whose cap is 0 is passed over. A number of steps is
-- looked at that does not depend on how many there are.
SELECT placed.step_id AS best_id, placed.task_type AS best_type
  FROM (SELECT looked.step_id, looked.task_type, looked.priority, looked.created_ts, looked.most, ROW_NUMBER() OVER (
               PARTITION BY looked.task_type
               ORDER BY looked.priority DESC, looked.created_ts, looked.step_id) AS place
          FROM (SELECT s.step_id, s.task_type, s.priority, s.created_ts, c.most
                  FROM step_tracker AS s
                 CROSS JOIN (SELECT COUNT(*) AS n FROM pod_health
                              WHERE pod_id = :pod_id AND incarnation = :incarnation AND status = 'up'
                                AND last_heartbeat_ts > DATEADD(microsecond, -:threshold_us, SYSDATE())) AS alive
                 CROSS JOIN (SELECT COUNT(*) AS n FROM step_tracker
                              WHERE status = 'claimed' AND incarnation = :incarnation
                                AND claim_token = :token) AS mine
                  LEFT JOIN (SELECT f.value[0]::VARCHAR AS task_type, f.value[1]::INTEGER AS most
                               FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:caps))) AS f) AS c
                    ON c.task_type = s.task_type
                 WHERE s.status = 'pending' AND (s.due_ts IS NULL OR s.due_ts <= SYSDATE())
                   AND alive.n > 0 AND mine.n = :held AND (c.most IS NULL OR c.most > 0)
                 ORDER BY s.priority DESC, s.created_ts, s.step_id LIMIT :look_limit) AS looked) AS placed
 WHERE placed.most IS NULL OR placed.place <= placed.most
 ORDER BY placed.priority DESC, placed.created_ts, placed.step_id LIMIT :limit;

-- name: claim_steps
-- Standard tables: chosen and written in one statement, which has the lock of the table anyway. By step_id and not
-- joined: should the table hold a step twice, both rows go the same way.
UPDATE step_tracker
   SET status = 'claimed', claimed_by = :pod_id, incarnation = :incarnation, claim_token = :token,
       claimed_ts = SYSDATE(), due_ts = NULL, last_update_ts = SYSDATE()
 WHERE status = 'pending' AND (due_ts IS NULL OR due_ts <= SYSDATE())
   AND step_id IN (SELECT best.best_id FROM (/*best_steps*/) AS best);

-- name: claim_chosen
-- Hybrid tables: :ids, a JSON list, is what best_steps found, so that no row is locked but these. Every guard of
-- best_steps that may have changed since stands here again: who comes second gets fewer rows.
UPDATE step_tracker
   SET status = 'claimed', claimed_by = :pod_id, incarnation = :incarnation, claim_token = :token,
       claimed_ts = SYSDATE(), due_ts = NULL, last_update_ts = SYSDATE()
 WHERE status = 'pending' AND (due_ts IS NULL OR due_ts <= SYSDATE())
   AND step_id IN (SELECT chosen.chosen_id FROM (
       SELECT told.told_id AS chosen_id
         FROM (SELECT f.value::VARCHAR AS told_id FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:ids))) AS f) AS told
        CROSS JOIN (SELECT COUNT(*) AS n FROM pod_health
                     WHERE pod_id = :pod_id AND incarnation = :incarnation AND status = 'up'
                       AND last_heartbeat_ts > DATEADD(microsecond, -:threshold_us, SYSDATE())) AS alive
        CROSS JOIN (SELECT COUNT(*) AS n FROM step_tracker
                     WHERE status = 'claimed' AND incarnation = :incarnation AND claim_token = :token) AS mine
        WHERE alive.n > 0 AND mine.n = :held) AS chosen);

-- name: read_claim
SELECT step_id, task_type, payload, priority, retry_count, created_ts, claim_token, deferrals
  FROM step_tracker
 WHERE status = 'claimed' AND incarnation = :incarnation AND claim_token = :token;

-- name: settle_steps
-- :outcomes is a JSON list of [step_id, token, status, result or error, run_s, delay in microseconds]: one statement
-- for a mixed set, because each costs a round trip and the lock of the table. Without a delay, or with no retry left,
-- a failure's retry_ts stays NULL: a dead letter. A step handed back keeps its token, so that a repeat knows its own
-- work, and its incarnation, which tells it from a failure that was retried.
UPDATE step_tracker
   SET status = told.outcome,
       result = CASE WHEN told.outcome = 'completed' THEN told.said END,
       error = CASE WHEN told.outcome <> 'completed' THEN told.said END,
       run_s = CASE WHEN told.outcome <> 'pending' THEN told.ran_s END,
       finished_ts = CASE WHEN told.outcome <> 'pending' THEN SYSDATE() END,
       retry_ts = CASE WHEN told.outcome = 'failed' AND retry_count < COALESCE(max_retries, :max_retries)
                       THEN DATEADD(microsecond, told.delay_us, SYSDATE()) END,
       due_ts = CASE WHEN told.outcome = 'pending' AND told.delay_us > 0
                     THEN DATEADD(microsecond, told.delay_us, SYSDATE()) END,
       deferrals = CASE WHEN told.outcome = 'pending' THEN deferrals + 1 ELSE deferrals END,
       claimed_by = CASE WHEN told.outcome <> 'pending' THEN claimed_by END,
       claimed_ts = CASE WHEN told.outcome <> 'pending' THEN claimed_ts END,
       history = CASE WHEN told.outcome <> 'failed' THEN history ELSE
           COALESCE(LEFT(history, LENGTH(history) - 1) || ',', '[') || TO_JSON(OBJECT_CONSTRUCT_KEEP_NULL(
               'attempt', retry_count + 1, 'outcome', 'failed', 'pod_id', claimed_by,
               'claimed_ts', DATE_PART(epoch_microsecond, claimed_ts) / 1000000,
               'ended_ts', DATE_PART(epoch_microsecond, SYSDATE()) / 1000000,
               'run_s', told.ran_s, 'error', told.said)) || ']' END,
       last_update_ts = SYSDATE()
  FROM (SELECT f.value[0]::VARCHAR AS told_id, f.value[1]::VARCHAR AS told_token, f.value[2]::VARCHAR AS outcome,
               f.value[3]::VARCHAR AS said, f.value[4]::FLOAT AS ran_s, f.value[5]::INTEGER AS delay_us
          FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:outcomes))) AS f
         WHERE f.value[2]::VARCHAR IN ('completed', 'failed', 'pending')) AS told
 WHERE step_tracker.step_id = told.told_id AND step_tracker.claim_token = told.told_token
   AND step_tracker.status = 'claimed';

-- name: settled_already
-- A pair counts as written only in the state its own outcome leads to; recovery clears the token of what it takes away.
SELECT step_id, claim_token, CASE WHEN status <> 'pending' THEN status WHEN incarnation IS NULL THEN 'retried'
                                  ELSE 'deferred' END
  FROM step_tracker
 WHERE step_id IN (SELECT f.value::VARCHAR FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:step_ids))) AS f);

-- name: release_steps
-- :claims is a JSON list of [step_id, token].
UPDATE step_tracker
   SET status = 'pending', claimed_by = NULL, incarnation = NULL, claim_token = NULL, claimed_ts = NULL,
       last_update_ts = SYSDATE()
  FROM (SELECT DISTINCT f.value[0]::VARCHAR AS held_id, f.value[1]::VARCHAR AS held_token
          FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:claims))) AS f) AS held
 WHERE step_tracker.step_id = held.held_id AND step_tracker.claim_token = held.held_token
   AND step_tracker.status = 'claimed';

-- name: release_unknown
UPDATE step_tracker
   SET status = 'pending', claimed_by = NULL, incarnation = NULL, claim_token = NULL, claimed_ts = NULL,
       last_update_ts = SYSDATE()
 WHERE status = 'claimed' AND incarnation = :incarnation AND claimed_ts < :before
   AND claim_token NOT IN (SELECT f.value::VARCHAR FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:known))) AS f);

-- name: held_claims
SELECT step_id, claim_token FROM step_tracker WHERE status = 'claimed' AND incarnation = :incarnation;

-- name: requeue_steps
UPDATE step_tracker
   SET status = 'pending', retry_count = 0, claimed_by = NULL, incarnation = NULL, claim_token = NULL,
       claimed_ts = NULL, finished_ts = NULL, run_s = NULL, retry_ts = NULL, deferrals = 0,
       last_update_ts = SYSDATE(), write_token = :token,
       history = COALESCE(LEFT(history, LENGTH(history) - 1) || ',', '[') || TO_JSON(OBJECT_CONSTRUCT(
           'outcome', 'requeued', 'ended_ts', DATE_PART(epoch_microsecond, SYSDATE()) / 1000000)) || ']'
 WHERE status = 'failed'
   AND step_id IN (SELECT f.value::VARCHAR FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:step_ids))) AS f);

-- name: cancel_steps
UPDATE step_tracker
   SET status = 'failed', error = :reason, finished_ts = SYSDATE(), retry_ts = NULL, due_ts = NULL,
       last_update_ts = SYSDATE(), write_token = :token,
       history = COALESCE(LEFT(history, LENGTH(history) - 1) || ',', '[') || TO_JSON(OBJECT_CONSTRUCT(
           'outcome', 'cancelled', 'ended_ts', DATE_PART(epoch_microsecond, SYSDATE()) / 1000000,
           'error', :reason)) || ']'
 WHERE status = 'pending'
   AND step_id IN (SELECT f.value::VARCHAR FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:step_ids))) AS f);

-- name: moved_under
SELECT DISTINCT step_id FROM step_tracker WHERE write_token = :token ORDER BY step_id;

-- name: payloads_of
SELECT step_id, payload, priority FROM step_tracker
 WHERE step_id IN (SELECT f.value::VARCHAR FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:step_ids))) AS f);

-- name: get_steps
SELECT step_id, task_type, payload, priority, status, retry_count, max_retries, claimed_by, incarnation, claim_token,
       created_ts, claimed_ts, finished_ts, last_update_ts, retry_ts, run_s, result, error, history, recovery_run_id,
       due_ts, deferrals
  FROM step_tracker
 WHERE step_id IN (SELECT f.value::VARCHAR FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:step_ids))) AS f);

-- name: find_steps
SELECT step_id, task_type, payload, priority, status, retry_count, max_retries, claimed_by, incarnation, claim_token,
       created_ts, claimed_ts, finished_ts, last_update_ts, retry_ts, run_s, result, error, history, recovery_run_id,
       due_ts, deferrals
  FROM step_tracker
 WHERE /*where*/
 ORDER BY created_ts DESC, step_id DESC LIMIT :limit;

-- name: find_ids
SELECT step_id FROM step_tracker
 WHERE /*where*/
 ORDER BY created_ts DESC, step_id DESC LIMIT :limit;

-- name: created_behind
SELECT MIN(created_ts), COUNT(*)
  FROM (SELECT created_ts FROM step_tracker
         WHERE /*where*/
         ORDER BY created_ts DESC, step_id DESC LIMIT :limit);

-- name: held_by_pod
SELECT claimed_by, incarnation, COUNT(*), MIN(claimed_ts) FROM step_tracker
 WHERE status = 'claimed' GROUP BY claimed_by, incarnation ORDER BY claimed_by, incarnation;

-- name: stats
SELECT SYSDATE(), COUNT(CASE WHEN status = 'pending' THEN 1 END), COUNT(CASE WHEN status = 'claimed' THEN 1 END),
       COUNT(CASE WHEN status = 'completed' THEN 1 END), COUNT(CASE WHEN status = 'failed' THEN 1 END),
       COUNT(CASE WHEN status = 'failed' AND retry_ts IS NULL THEN 1 END),
       MIN(CASE WHEN status = 'pending' AND (due_ts IS NULL OR due_ts <= SYSDATE()) THEN created_ts END),
       COUNT(CASE WHEN status = 'pending' AND due_ts > SYSDATE() THEN 1 END),
       COUNT(CASE WHEN status = 'failed' AND retry_ts <= SYSDATE() THEN 1 END)
  FROM step_tracker;

-- name: register_pod
-- The newcomer takes the row; a repeat by the same incarnation keeps its birth, and so its place in the line of
-- leaders.
MERGE INTO pod_health USING (
    SELECT :pod_id AS new_pod, :incarnation AS new_incarnation, :may_lead AS new_may_lead, :meta AS new_meta
    ) AS newcomer
   ON pod_health.pod_id = newcomer.new_pod
 WHEN MATCHED THEN UPDATE
      SET birth_ts = CASE WHEN pod_health.incarnation = newcomer.new_incarnation AND pod_health.status = 'up'
                          THEN pod_health.birth_ts ELSE SYSDATE() END,
          incarnation = newcomer.new_incarnation, status = 'up', last_heartbeat_ts = SYSDATE(),
          may_lead = newcomer.new_may_lead, meta = newcomer.new_meta
 WHEN NOT MATCHED THEN INSERT (pod_id, incarnation, status, birth_ts, last_heartbeat_ts, may_lead, meta)
      VALUES (newcomer.new_pod, newcomer.new_incarnation, 'up', SYSDATE(), SYSDATE(), newcomer.new_may_lead,
              newcomer.new_meta);

-- name: beat
UPDATE pod_health SET last_heartbeat_ts = SYSDATE(), meta = :meta
 WHERE pod_id = :pod_id AND incarnation = :incarnation AND status = 'up';

-- name: revive
UPDATE pod_health SET last_heartbeat_ts = SYSDATE(), meta = :meta, status = 'up'
 WHERE pod_id = :pod_id AND incarnation = :incarnation;

-- name: fleet_view
-- What a beat wants to know, in one statement: rows of (kind, four texts, two times). 'own' is the pod's row with the
-- database's time, 'leader' the leader's, 'report' a living pod that uses a throttle of the fleet, 'state' the newest
-- pauses and resumes, 'order' what the pod, or the leader, is to do, 'held' a token that the process has claims under.
SELECT 'own' AS kind, incarnation AS a, NULL::VARCHAR AS b, NULL::VARCHAR AS c, NULL::VARCHAR AS d,
       NULL::VARCHAR AS e, birth_ts AS at_ts, SYSDATE() AS now_ts
  FROM pod_health WHERE pod_id = :pod_id
 UNION ALL
SELECT 'leader', elected.incarnation, elected.pod_id, elected.meta, NULL, NULL, elected.birth_ts, NULL
  FROM (SELECT incarnation, pod_id, meta, birth_ts FROM pod_health
         WHERE status = 'up' AND may_lead = 1
           AND last_heartbeat_ts > DATEADD(microsecond, -:threshold_us, SYSDATE())
         ORDER BY birth_ts, pod_id LIMIT 1) AS elected
 UNION ALL
SELECT 'report', pod_id, NULL, NULL, NULL, NULL, birth_ts, NULL FROM pod_health
 WHERE status = 'up' AND last_heartbeat_ts > DATEADD(microsecond, -:threshold_us, SYSDATE())
   AND CONTAINS(meta, '"throttle_reports"')
 UNION ALL
SELECT 'state', state.command_id, state.kind, NULL, NULL, NULL, state.issued_ts, NULL
  FROM (SELECT command_id, kind, issued_ts FROM command_log
         WHERE kind IN ('pause', 'resume') AND target IN ('*', :pod_id)
         ORDER BY issued_ts DESC, command_id DESC LIMIT 1) AS state
 UNION ALL
SELECT 'order', c.command_id, c.kind, c.target, c.args, c.issued_by, c.issued_ts, NULL
  FROM command_log AS c
  LEFT JOIN (SELECT DISTINCT command_id FROM command_answer WHERE pod_id = :pod_id) AS own
    ON own.command_id = c.command_id
  LEFT JOIN (SELECT DISTINCT command_id FROM command_answer) AS anyone ON anyone.command_id = c.command_id
 WHERE c.issued_ts > DATEADD(second, -3600, SYSDATE())
   AND ((c.target IN ('*', :pod_id) AND own.command_id IS NULL)
     OR (c.target = 'leader' AND anyone.command_id IS NULL))
 UNION ALL
SELECT 'held', claim_token, NULL, NULL, NULL, NULL, MIN(claimed_ts), NULL FROM step_tracker
 WHERE status = 'claimed' AND incarnation = :incarnation GROUP BY claim_token;

-- name: throttle_reports
SELECT pod_id, meta FROM pod_health
 WHERE status = 'up' AND last_heartbeat_ts > DATEADD(microsecond, -:threshold_us, SYSDATE())
   AND CONTAINS(meta, '"throttle_reports"')
 ORDER BY birth_ts, pod_id;

-- name: mark_down
UPDATE pod_health SET status = 'down' WHERE pod_id = :pod_id AND incarnation = :incarnation;

-- name: idle_look
-- Like any_pending the same text each time, without a clock: a fleet at rest writes nothing, so on standard tables the
-- result cache answers, and the warehouse sleeps on.
SELECT (SELECT COUNT(*) FROM step_tracker
         WHERE status IN ('pending', 'claimed') OR (status = 'failed' AND retry_ts IS NOT NULL)),
       (SELECT MAX(issued_ts) FROM command_log), (SELECT MAX(last_heartbeat_ts) FROM pod_health);

-- name: list_pods
SELECT pod_id, incarnation, status, birth_ts, last_heartbeat_ts, may_lead, meta FROM pod_health
 ORDER BY birth_ts, pod_id;

-- name: insert_command
MERGE INTO command_log USING (
    SELECT :command_id AS new_id, :kind AS new_kind, :target AS new_target, :args AS new_args, :issued_by AS new_by
    ) AS issued
   ON command_log.command_id = issued.new_id
 WHEN NOT MATCHED THEN INSERT (command_id, kind, target, args, issued_by, issued_ts)
      VALUES (issued.new_id, issued.new_kind, issued.new_target, issued.new_args, issued.new_by, SYSDATE());

-- name: answer_command
MERGE INTO command_answer USING (
    SELECT :command_id AS new_id, :pod_id AS new_pod, :ok AS new_ok, :result AS new_result) AS given
   ON command_answer.command_id = given.new_id AND command_answer.pod_id = given.new_pod
 WHEN NOT MATCHED THEN INSERT (command_id, pod_id, done_ts, ok, result)
      VALUES (given.new_id, given.new_pod, SYSDATE(), given.new_ok, given.new_result);

-- name: list_commands
-- A row for each answer of each command, or one without an answer. :command_ids is a JSON list, or NULL for all.
SELECT c.command_id, c.kind, c.target, c.args, c.issued_by, c.issued_ts,
       a.command_id, a.pod_id, a.done_ts, a.ok, a.result
  FROM (SELECT command_id, kind, target, args, issued_by, issued_ts FROM command_log
         WHERE :command_ids IS NULL
            OR command_id IN (SELECT f.value::VARCHAR FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:command_ids))) AS f)
         ORDER BY issued_ts DESC, command_id DESC LIMIT :limit) AS c
  LEFT JOIN command_answer AS a ON a.command_id = c.command_id
 ORDER BY c.issued_ts DESC, c.command_id DESC, a.done_ts, a.pod_id;

-- name: recovery_look
-- Most cycles find nothing to do, and cost this one statement.
SELECT SYSDATE(),
       (SELECT incarnation FROM pod_health
         WHERE status = 'up' AND may_lead = 1
           AND last_heartbeat_ts > DATEADD(microsecond, -:threshold_us, SYSDATE())
         ORDER BY birth_ts, pod_id LIMIT 1),
       (SELECT COUNT(*) FROM step_tracker AS o
          LEFT JOIN pod_health AS alive
            ON alive.pod_id = o.claimed_by AND alive.incarnation = o.incarnation AND alive.status = 'up'
           AND alive.last_heartbeat_ts > DATEADD(microsecond, -:silence_us, SYSDATE())
         WHERE o.status = 'claimed' AND alive.pod_id IS NULL),
       (SELECT COUNT(*) FROM step_tracker WHERE status = 'failed' AND retry_ts <= SYSDATE()),
       (SELECT COUNT(*) FROM pod_health
         WHERE status = 'up' AND last_heartbeat_ts <= DATEADD(microsecond, -:silence_us, SYSDATE()));

-- name: silent_pods
SELECT pod_id, incarnation, DATEDIFF(millisecond, last_heartbeat_ts, SYSDATE()) / 1000 FROM pod_health
 WHERE status = 'up' AND last_heartbeat_ts <= DATEADD(microsecond, -:silence_us, SYSDATE()) ORDER BY pod_id;

-- name: recover_orphans
-- An orphan is a claim whose owner is not among the living. Death, leadership and status are judged in here, at once.
UPDATE step_tracker
   SET status = CASE WHEN retry_count < COALESCE(max_retries, :max_retries) THEN 'pending' ELSE 'failed' END,
       retry_count = CASE WHEN retry_count < COALESCE(max_retries, :max_retries) THEN retry_count + 1
                          ELSE retry_count END,
       error = why.reason || CASE WHEN retry_count < COALESCE(max_retries, :max_retries) THEN '' ELSE
           '; all ' || COALESCE(max_retries, :max_retries)::VARCHAR || ' retries are used' END,
       history = COALESCE(LEFT(history, LENGTH(history) - 1) || ',', '[') || TO_JSON(OBJECT_CONSTRUCT_KEEP_NULL(
           'attempt', retry_count + 1, 'outcome', 'lost', 'pod_id', claimed_by,
           'claimed_ts', DATE_PART(epoch_microsecond, claimed_ts) / 1000000,
           'ended_ts', DATE_PART(epoch_microsecond, SYSDATE()) / 1000000,
           'error', why.reason, 'recovery_run_id', :run_id)) || ']',
       finished_ts = CASE WHEN retry_count < COALESCE(max_retries, :max_retries) THEN NULL ELSE SYSDATE() END,
       claimed_by = CASE WHEN retry_count < COALESCE(max_retries, :max_retries) THEN NULL ELSE claimed_by END,
       incarnation = NULL, claim_token = NULL, claimed_ts = NULL, retry_ts = NULL,
       last_update_ts = SYSDATE(), recovery_run_id = :run_id
  FROM (SELECT o.step_id AS orphan_id, o.claim_token AS orphan_token, 'pod ' || o.claimed_by || CASE
                   WHEN p.pod_id IS NULL THEN ' is not known to the fleet'
                   WHEN p.incarnation <> o.incarnation THEN ' was restarted'
                   WHEN p.status = 'down' THEN ' stopped or was declared dead'
                   ELSE ' sent no heartbeat for '
                        || FLOOR(DATEDIFF(millisecond, p.last_heartbeat_ts, SYSDATE()) / 1000)::INTEGER::VARCHAR
                        || ' s' END AS reason
          FROM step_tracker AS o
         CROSS JOIN (SELECT incarnation FROM pod_health
                      WHERE status = 'up' AND may_lead = 1
                        AND last_heartbeat_ts > DATEADD(microsecond, -:threshold_us, SYSDATE())
                      ORDER BY birth_ts, pod_id LIMIT 1) AS elected
          LEFT JOIN pod_health AS p ON p.pod_id = o.claimed_by
          LEFT JOIN pod_health AS alive
            ON alive.pod_id = o.claimed_by AND alive.incarnation = o.incarnation AND alive.status = 'up'
           AND alive.last_heartbeat_ts > DATEADD(microsecond, -:silence_us, SYSDATE())
         WHERE o.status = 'claimed' AND alive.pod_id IS NULL AND elected.incarnation = :incarnation
       QUALIFY ROW_NUMBER() OVER (PARTITION BY o.step_id ORDER BY p.last_heartbeat_ts DESC) = 1
         LIMIT :limit) AS why
 WHERE step_tracker.step_id = why.orphan_id AND step_tracker.claim_token = why.orphan_token
   AND step_tracker.status = 'claimed';

-- name: retry_failed
UPDATE step_tracker
   SET status = 'pending', retry_count = retry_count + 1, claimed_by = NULL, incarnation = NULL,
       claimed_ts = NULL, finished_ts = NULL, run_s = NULL, retry_ts = NULL,
       last_update_ts = SYSDATE(), recovery_run_id = :run_id
 WHERE status = 'failed' AND retry_ts <= SYSDATE()
   AND step_id IN (SELECT due.due_id FROM (
       SELECT f.step_id AS due_id
         FROM step_tracker AS f
        CROSS JOIN (SELECT incarnation FROM pod_health
                     WHERE status = 'up' AND may_lead = 1
                       AND last_heartbeat_ts > DATEADD(microsecond, -:threshold_us, SYSDATE())
                     ORDER BY birth_ts, pod_id LIMIT 1) AS elected
        WHERE f.status = 'failed' AND f.retry_ts <= SYSDATE() AND elected.incarnation = :incarnation
        ORDER BY f.retry_ts LIMIT :limit) AS due);

-- name: bury_dead_pods
-- Comes after the orphans, though it need not: they are found by who is alive, not by who was seen dying.
UPDATE pod_health SET status = 'down'
 WHERE status = 'up' AND last_heartbeat_ts <= DATEADD(microsecond, -:silence_us, SYSDATE())
   AND pod_id IN (SELECT silent.silent_id FROM (
       SELECT s.pod_id AS silent_id
         FROM pod_health AS s
        CROSS JOIN (SELECT incarnation FROM pod_health
                     WHERE status = 'up' AND may_lead = 1
                       AND last_heartbeat_ts > DATEADD(microsecond, -:threshold_us, SYSDATE())
                     ORDER BY birth_ts, pod_id LIMIT 1) AS elected
        WHERE elected.incarnation = :incarnation) AS silent);

-- name: moved_in_run
-- A step's history tells what the run did to it, whoever has claimed it since.
SELECT step_id, retry_count, error, history FROM step_tracker WHERE recovery_run_id = :run_id ORDER BY step_id;

-- name: open_recovery_run
MERGE INTO recovery_run USING (
    SELECT :run_id AS new_id, :pod_id AS new_leader, :dead_pods AS new_dead, :verdicts AS new_verdicts) AS opened
   ON recovery_run.run_id = opened.new_id
 WHEN NOT MATCHED THEN INSERT (run_id, leader_pod_id, trigger_kind, started_ts, dead_pods, total_orphans, resubmitted,
                               terminal_failures, retried, held_off, verdicts)
      VALUES (opened.new_id, opened.new_leader, 'cycle', SYSDATE(), opened.new_dead, 0, 0, 0, 0, 0,
              opened.new_verdicts);

-- name: verdicts_of_run
SELECT verdicts FROM recovery_run WHERE run_id = :run_id;

-- name: save_recovery_run
MERGE INTO recovery_run USING (
    SELECT :run_id AS new_id, :leader_pod_id AS new_leader, :trigger AS new_trigger, :started_ts AS new_started,
           :finished_ts AS new_finished, :duration_s AS new_duration, :dead_pods AS new_dead,
           :total_orphans AS new_total, :resubmitted AS new_resubmitted, :terminal_failures AS new_terminal,
           :retried AS new_retried, :held_off AS new_held, :verdicts AS new_verdicts,
           :statements AS new_statements) AS done
   ON recovery_run.run_id = done.new_id
 WHEN MATCHED AND recovery_run.finished_ts IS NULL THEN UPDATE
      SET trigger_kind = done.new_trigger, started_ts = done.new_started, finished_ts = done.new_finished,
          duration_s = done.new_duration, dead_pods = done.new_dead, total_orphans = done.new_total,
          resubmitted = done.new_resubmitted, terminal_failures = done.new_terminal, retried = done.new_retried,
          held_off = done.new_held, verdicts = done.new_verdicts, statements = done.new_statements
 WHEN NOT MATCHED THEN INSERT (run_id, leader_pod_id, trigger_kind, started_ts, finished_ts, duration_s, dead_pods,
                               total_orphans, resubmitted, terminal_failures, retried, held_off, verdicts, statements)
      VALUES (done.new_id, done.new_leader, done.new_trigger, done.new_started, done.new_finished, done.new_duration,
              done.new_dead, done.new_total, done.new_resubmitted, done.new_terminal, done.new_retried, done.new_held,
              done.new_verdicts, done.new_statements);

-- name: save_decisions
-- :decisions is a JSON list of [step_id, cause, action, owner, retry_count, reason].
MERGE INTO recovery_decision USING (
    SELECT f.value[0]::VARCHAR AS new_id, f.value[1]::VARCHAR AS new_cause, f.value[2]::VARCHAR AS new_action,
           f.value[3]::VARCHAR AS new_owner, f.value[4]::INTEGER AS new_count, f.value[5]::VARCHAR AS new_reason
      FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:decisions))) AS f) AS decided
   ON recovery_decision.run_id = :run_id AND recovery_decision.step_id = decided.new_id
 WHEN NOT MATCHED THEN INSERT (run_id, step_id, cause, action, owner, retry_count, reason)
      VALUES (:run_id, decided.new_id, decided.new_cause, decided.new_action, decided.new_owner, decided.new_count,
              decided.new_reason);

-- name: list_recovery_runs
SELECT run_id, leader_pod_id, trigger_kind, started_ts, finished_ts, duration_s, dead_pods, total_orphans, resubmitted,
       terminal_failures, retried, held_off, verdicts, statements
  FROM recovery_run WHERE (:run_id IS NULL OR run_id = :run_id)
 ORDER BY started_ts DESC, run_id LIMIT :limit;

-- name: find_decisions
SELECT d.run_id, r.leader_pod_id, r.started_ts, d.step_id, d.cause, d.action, d.owner, d.retry_count, d.reason
  FROM recovery_decision AS d LEFT JOIN recovery_run AS r ON r.run_id = d.run_id
 WHERE /*where*/
 ORDER BY r.started_ts DESC NULLS LAST, d.run_id, d.cause, d.step_id LIMIT :limit;

-- name: sample_look
-- The living pods, the one that leads first among those that may, each with the last sample's time, the time since which
-- is counted, the database's, and the counts: one statement, because most of a sample's cost is their number.
SELECT counted.last_ts, counted.since_ts, SYSDATE(), counted.pending, counted.claimed, counted.completed,
       counted.failed, counted.dead, counted.oldest_ts, counted.deferred, counted.submitted_since,
       counted.completed_since, counted.failed_since,
       p.pod_id, p.incarnation, p.status, p.birth_ts, p.last_heartbeat_ts, p.may_lead, p.meta
  FROM pod_health AS p
 CROSS JOIN (
    SELECT MAX(s.last_ts) AS last_ts, MAX(s.since_ts) AS since_ts,
           COUNT(CASE WHEN t.status = 'pending' THEN 1 END) AS pending,
           COUNT(CASE WHEN t.status = 'claimed' THEN 1 END) AS claimed,
           COUNT(CASE WHEN t.status = 'completed' THEN 1 END) AS completed,
           COUNT(CASE WHEN t.status = 'failed' THEN 1 END) AS failed,
           COUNT(CASE WHEN t.status = 'failed' AND t.retry_ts IS NULL THEN 1 END) AS dead,
           MIN(CASE WHEN t.status = 'pending' AND (t.due_ts IS NULL OR t.due_ts <= SYSDATE())
                    THEN t.created_ts END) AS oldest_ts,
           COUNT(CASE WHEN t.status = 'pending' AND t.due_ts > SYSDATE() THEN 1 END) AS deferred,
           COUNT(CASE WHEN t.created_ts > s.since_ts AND t.created_ts <= SYSDATE() THEN 1 END) AS submitted_since,
           COUNT(CASE WHEN t.status = 'completed' AND t.finished_ts > s.since_ts THEN 1 END) AS completed_since,
           COUNT(CASE WHEN t.status = 'failed' AND t.finished_ts > s.since_ts THEN 1 END) AS failed_since
      FROM (SELECT MAX(sampled_ts) AS last_ts,
                   COALESCE(MAX(sampled_ts), DATEADD(microsecond, -:interval_us, SYSDATE())) AS since_ts
              FROM fleet_sample) AS s
      LEFT JOIN step_tracker AS t ON 1 = 1) AS counted
 WHERE p.status = 'up' AND p.last_heartbeat_ts > DATEADD(microsecond, -:threshold_us, SYSDATE())
 ORDER BY p.birth_ts, p.pod_id;

-- name: sample_times
SELECT DATEDIFF(microsecond, created_ts, claimed_ts), run_s FROM step_tracker
 WHERE status = 'completed' AND finished_ts > :since ORDER BY finished_ts DESC LIMIT :limit;

-- name: insert_sample
MERGE INTO fleet_sample USING (
    SELECT :bucket AS new_bucket, :sampled_ts AS new_ts, :interval_s AS new_interval, :pending AS new_pending,
           :claimed AS new_claimed, :completed AS new_completed, :failed AS new_failed, :submitted_delta AS new_sub,
           :completed_delta AS new_comp, :failed_delta AS new_fail, :oldest_pending_s AS new_oldest,
           :pods_alive AS new_alive, :running AS new_running, :leader_pod_id AS new_leader, :wait_p50_s AS new_w50,
           :wait_p95_s AS new_w95, :wait_p99_s AS new_w99, :run_p50_s AS new_r50, :run_p95_s AS new_r95,
           :run_p99_s AS new_r99, :pods AS new_pods) AS taken
   ON fleet_sample.bucket = taken.new_bucket
 WHEN NOT MATCHED THEN INSERT (bucket, sampled_ts, interval_s, pending, claimed, completed, failed, submitted_delta,
                               completed_delta, failed_delta, oldest_pending_s, pods_alive, running, leader_pod_id,
                               wait_p50_s, wait_p95_s, wait_p99_s, run_p50_s, run_p95_s, run_p99_s, pods)
      VALUES (taken.new_bucket, taken.new_ts, taken.new_interval, taken.new_pending, taken.new_claimed,
              taken.new_completed, taken.new_failed, taken.new_sub, taken.new_comp, taken.new_fail, taken.new_oldest,
              taken.new_alive, taken.new_running, taken.new_leader, taken.new_w50, taken.new_w95, taken.new_w99,
              taken.new_r50, taken.new_r95, taken.new_r99, taken.new_pods);

-- name: list_samples
SELECT sampled_ts, interval_s, pending, claimed, completed, failed, submitted_delta, completed_delta, failed_delta,
       oldest_pending_s, pods_alive, running, leader_pod_id, wait_p50_s, wait_p95_s, wait_p99_s, run_p50_s, run_p95_s,
       run_p99_s
  FROM fleet_sample WHERE sampled_ts >= :since ORDER BY sampled_ts DESC LIMIT :limit;

-- name: list_pod_samples
SELECT sampled_ts, leader_pod_id, pods FROM fleet_sample
 WHERE sampled_ts >= :since AND MOD(bucket, :every) = 0 AND pods IS NOT NULL ORDER BY sampled_ts;

-- name: insert_throttle_samples
-- :figures is a JSON list of rows in the order of the columns, without the bucket and the time.
MERGE INTO throttle_sample USING (
    SELECT f.value[0]::VARCHAR AS new_name, f.value[1]::VARCHAR AS new_pod, f.value[2]::INTEGER AS new_max,
           f.value[3]::INTEGER AS new_in, f.value[4]::INTEGER AS new_waiting, f.value[5]::FLOAT AS new_p95,
           f.value[6]::FLOAT AS new_base, f.value[7]::INTEGER AS new_requests, f.value[8]::INTEGER AS new_refused,
           f.value[9]::INTEGER AS new_timeouts, f.value[10]::INTEGER AS new_fleet
      FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:figures))) AS f) AS told
   ON throttle_sample.bucket = :bucket AND throttle_sample.name = told.new_name
  AND throttle_sample.pod_id = told.new_pod
 WHEN NOT MATCHED THEN INSERT (bucket, name, pod_id, sampled_ts, max_calls, in_flight, waiting, p95_s, baseline_s,
                               requests, refused, timeouts, fleet_limit)
      VALUES (:bucket, told.new_name, told.new_pod, :sampled_ts, told.new_max, told.new_in, told.new_waiting,
              told.new_p95, told.new_base, told.new_requests, told.new_refused, told.new_timeouts, told.new_fleet);

-- name: known_runs
-- For each [incarnation, name, n] of :told the run on record that may be its beginning.
SELECT told.incarnation, told.name, told.n, k.n, k.reason, k.times
  FROM (SELECT f.value[0]::VARCHAR AS incarnation, f.value[1]::VARCHAR AS name, f.value[2]::INTEGER AS n
          FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:told))) AS f) AS told
  JOIN throttle_change AS k ON k.incarnation = told.incarnation AND k.name = told.name AND k.n <= told.n
QUALIFY ROW_NUMBER() OVER (PARTITION BY told.incarnation, told.name, told.n ORDER BY k.n DESC) = 1;

-- name: known_plans
SELECT name, n, limit_after FROM throttle_change WHERE pod_id = '*'
QUALIFY ROW_NUMBER() OVER (PARTITION BY name ORDER BY at_ts DESC) = 1;

-- name: insert_throttle_changes
-- :changes is a JSON list of rows in the order of the columns. A run may grow after it was written; a plan does not.
MERGE INTO throttle_change USING (
    SELECT f.value[0]::VARCHAR AS new_inc, f.value[1]::VARCHAR AS new_name, f.value[2]::INTEGER AS new_n,
           f.value[3]::VARCHAR AS new_pod, f.value[4]::VARCHAR::TIMESTAMP_NTZ AS new_at,
           f.value[5]::INTEGER AS new_before, f.value[6]::INTEGER AS new_after, f.value[7]::VARCHAR AS new_reason,
           f.value[8]::INTEGER AS new_times
      FROM TABLE(FLATTEN(INPUT => PARSE_JSON(:changes))) AS f) AS told
   ON throttle_change.incarnation = told.new_inc AND throttle_change.name = told.new_name
  AND throttle_change.n = told.new_n
 WHEN MATCHED AND told.new_times > throttle_change.times AND told.new_pod <> '*' THEN UPDATE
      SET limit_after = told.new_after, times = told.new_times, at_ts = told.new_at
 WHEN NOT MATCHED THEN INSERT (incarnation, name, n, pod_id, at_ts, limit_before, limit_after, reason, times)
      VALUES (told.new_inc, told.new_name, told.new_n, told.new_pod, told.new_at, told.new_before, told.new_after,
              told.new_reason, told.new_times);

-- name: list_throttle_samples
SELECT name, pod_id, sampled_ts, max_calls, in_flight, waiting, p95_s, baseline_s, requests, refused, timeouts,
       fleet_limit
  FROM throttle_sample WHERE sampled_ts >= :since AND (:throttle IS NULL OR name = :throttle)
 ORDER BY sampled_ts DESC, name, pod_id LIMIT :limit;

-- name: list_throttle_changes
SELECT name, pod_id, incarnation, n, at_ts, limit_before, limit_after, reason, times
  FROM throttle_change WHERE at_ts >= :since AND (:throttle IS NULL OR name = :throttle)
 ORDER BY at_ts DESC, name, pod_id, n DESC LIMIT :limit;

-- name: purge_look
-- Of which kinds there may be something to purge. The deletes judge for themselves.
SELECT 'completed' AS kind, COUNT(*) AS n FROM step_tracker
 WHERE status = 'completed' AND finished_ts < :completed_before
 UNION ALL
SELECT 'failed', COUNT(*) FROM step_tracker
 WHERE status = 'failed' AND retry_ts IS NULL AND finished_ts < :failed_before
 UNION ALL
SELECT 'samples', COUNT(*) FROM fleet_sample WHERE sampled_ts < :completed_before
 UNION ALL
SELECT 'decisions', COUNT(*) FROM recovery_run WHERE started_ts < :failed_before
 UNION ALL
SELECT 'runs', COUNT(*) FROM recovery_run WHERE started_ts < :failed_before
 UNION ALL
SELECT 'commands', COUNT(*) FROM command_log WHERE issued_ts < :failed_before
 UNION ALL
SELECT 'answers', COUNT(*) FROM command_answer WHERE done_ts < :failed_before
 UNION ALL
SELECT 'pods', COUNT(*) FROM pod_health WHERE last_heartbeat_ts < DATEADD(second, -86400, SYSDATE())
 UNION ALL
SELECT 'throttles', COUNT(CASE WHEN sampled_ts < :completed_before THEN 1 END) + GREATEST(COUNT(*) - 500000, 0)
  FROM throttle_sample
 UNION ALL
SELECT 'changes', COUNT(CASE WHEN at_ts < :completed_before THEN 1 END) + GREATEST(COUNT(*) - 100000, 0)
  FROM throttle_change;

-- name: purge_completed
DELETE FROM step_tracker WHERE status = 'completed' AND finished_ts < :completed_before
   AND step_id IN (SELECT old.step_id FROM (
       SELECT step_id FROM step_tracker WHERE status = 'completed' AND finished_ts < :completed_before
        LIMIT :limit) AS old);

-- name: purge_failed
DELETE FROM step_tracker WHERE status = 'failed' AND retry_ts IS NULL AND finished_ts < :failed_before
   AND step_id IN (SELECT old.step_id FROM (
       SELECT step_id FROM step_tracker WHERE status = 'failed' AND retry_ts IS NULL AND finished_ts < :failed_before
        LIMIT :limit) AS old);

-- name: purge_samples
DELETE FROM fleet_sample WHERE bucket IN (SELECT old.bucket FROM (
    SELECT bucket FROM fleet_sample WHERE sampled_ts < :completed_before LIMIT :limit) AS old);

-- name: purge_decisions
DELETE FROM recovery_decision WHERE run_id IN (SELECT old.run_id FROM (
    SELECT run_id FROM recovery_run WHERE started_ts < :failed_before LIMIT :limit) AS old);

-- name: purge_runs
DELETE FROM recovery_run WHERE started_ts < :failed_before
   AND run_id NOT IN (SELECT run_id FROM recovery_decision);

-- name: purge_commands
-- The newest pause or resume of each target is state, not history: it stays.
DELETE FROM command_log WHERE command_id IN (SELECT old.command_id FROM (
    SELECT c.command_id FROM command_log AS c
      LEFT JOIN (SELECT target, MAX(issued_ts) AS newest FROM command_log
                  WHERE kind IN ('pause', 'resume') GROUP BY target) AS state
        ON state.target = c.target AND state.newest = c.issued_ts AND c.kind IN ('pause', 'resume')
     WHERE c.issued_ts < :failed_before AND state.target IS NULL LIMIT :limit) AS old);

-- name: purge_answers
DELETE FROM command_answer WHERE command_id NOT IN (SELECT command_id FROM command_log);

-- name: purge_pods
-- A pod leaves the record a day after its last beat, and never while it owns something.
DELETE FROM pod_health WHERE last_heartbeat_ts < DATEADD(second, -86400, SYSDATE())
   AND pod_id NOT IN (SELECT claimed_by FROM step_tracker WHERE status = 'claimed' AND claimed_by IS NOT NULL);

-- name: purge_throttles
-- By age, and by number too: how fast this grows is up to how many throttles and pods there are.
DELETE FROM throttle_sample WHERE sampled_ts < :completed_before
    OR sampled_ts < (SELECT sampled_ts FROM throttle_sample ORDER BY sampled_ts DESC LIMIT 1 OFFSET 500000);

-- name: purge_changes
DELETE FROM throttle_change WHERE at_ts < :completed_before
    OR at_ts < (SELECT at_ts FROM throttle_change ORDER BY at_ts DESC LIMIT 1 OFFSET 100000);
