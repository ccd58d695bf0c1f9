-- FLEET-Q in Snowpark Container Services, step by step. The database, the schema, the warehouse, the role fleetq_pod and
-- the tables are there already: docs/snowflake.md says how. A service runs as the role that created it.

-- 1. As an administrator: where containers run, where images and specifications are kept, and who may use them.
CREATE COMPUTE POOL IF NOT EXISTS fleetq_pool
  MIN_NODES = 1 MAX_NODES = 2 INSTANCE_FAMILY = CPU_X64_XS AUTO_RESUME = TRUE AUTO_SUSPEND_SECS = 600;
CREATE IMAGE REPOSITORY IF NOT EXISTS fleetq.queue.images;
CREATE STAGE IF NOT EXISTS fleetq.queue.specs DIRECTORY = (ENABLE = TRUE);
GRANT USAGE, MONITOR ON COMPUTE POOL fleetq_pool TO ROLE fleetq_pod;
GRANT READ, WRITE ON IMAGE REPOSITORY fleetq.queue.images TO ROLE fleetq_pod;
GRANT READ, WRITE ON STAGE fleetq.queue.specs TO ROLE fleetq_pod;
GRANT CREATE SERVICE ON SCHEMA fleetq.queue TO ROLE fleetq_pod;
GRANT BIND SERVICE ENDPOINT ON ACCOUNT TO ROLE fleetq_pod;

-- 2. From a shell: the image, for linux/amd64, and the two specifications.
--    SHOW IMAGE REPOSITORIES IN SCHEMA fleetq.queue;  -- its repository_url is REPOSITORY
--    docker build --platform linux/amd64 -f deploy/docker/Dockerfile -t REPOSITORY/fleetq:0.1.0 .
--    docker push REPOSITORY/fleetq:0.1.0
--    snow stage copy deploy/spcs/pods.yaml @fleetq.queue.specs --overwrite
--    snow stage copy deploy/spcs/dashboard.yaml @fleetq.queue.specs --overwrite

-- 3. As fleetq_pod: the services.
USE ROLE fleetq_pod;
CREATE SERVICE IF NOT EXISTS fleetq.queue.fleetq_pods
  IN COMPUTE POOL fleetq_pool FROM @fleetq.queue.specs SPECIFICATION_FILE = 'pods.yaml'
  QUERY_WAREHOUSE = fleetq_wh MIN_INSTANCES = 2 MAX_INSTANCES = 2;
CREATE SERVICE IF NOT EXISTS fleetq.queue.fleetq_dashboard
  IN COMPUTE POOL fleetq_pool FROM @fleetq.queue.specs SPECIFICATION_FILE = 'dashboard.yaml'
  QUERY_WAREHOUSE = fleetq_wh MIN_INSTANCES = 1 MAX_INSTANCES = 1;
GRANT SERVICE ROLE fleetq.queue.fleetq_dashboard!dashboard_user TO ROLE fleetq_operator;

-- 4. Where it is, and how it does.
SHOW ENDPOINTS IN SERVICE fleetq.queue.fleetq_dashboard;
SHOW SERVICE CONTAINERS IN SERVICE fleetq.queue.fleetq_pods;
SELECT SYSTEM$GET_SERVICE_LOGS('fleetq.queue.fleetq_pods', '0', 'pod', 100);

-- 5. An upgrade: the tables first, if the schema's version has changed; then push an image under a new tag, copy the
--    specifications that name it, and
ALTER SERVICE fleetq.queue.fleetq_pods FROM @fleetq.queue.specs SPECIFICATION_FILE = 'pods.yaml';
ALTER SERVICE fleetq.queue.fleetq_dashboard FROM @fleetq.queue.specs SPECIFICATION_FILE = 'dashboard.yaml';
