-- Schema version 3: what throttles did, for the Throttles page. Figures are what pods published; NULL: they did not.

CREATE TABLE throttle_sample (
    bucket      INTEGER NOT NULL, -- sampled_ts in whole intervals, as in sample: two leaders write one
    name        TEXT NOT NULL,
    pod_id      TEXT NOT NULL,
    sampled_ts  REAL NOT NULL,
    max_calls   INTEGER,          -- the limit
    in_flight   INTEGER,
    waiting     INTEGER,          -- callers without a slot
    p95_s       REAL,             -- latency of answered calls
    baseline_s  REAL,             -- its usual p95
    requests    INTEGER,          -- this and the next two: totals since the process started or the throttle was reset
    refused     INTEGER,
    timeouts    INTEGER,
    fleet_limit INTEGER,          -- scope fleet: the limit of all pods together
    PRIMARY KEY (bucket, name, pod_id)
);
CREATE INDEX throttle_sample_ts ON throttle_sample (sampled_ts);

CREATE TABLE throttle_change (
    incarnation TEXT NOT NULL,    -- the process that says so
    name        TEXT NOT NULL,
    n           INTEGER NOT NULL, -- number of the run's first change, from 0 since the process started
    pod_id      TEXT NOT NULL,    -- '*': the limit of the fleet, as its leader planned it; n is then the plan's epoch
    at_ts       REAL NOT NULL,    -- of the run's last change
    before      INTEGER,          -- NULL: not known
    after       INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    times       INTEGER NOT NULL, -- how many like changes the run stands for
    PRIMARY KEY (incarnation, name, n)
);
CREATE INDEX throttle_change_ts ON throttle_change (at_ts);
CREATE INDEX throttle_change_name ON throttle_change (name, at_ts);
