-- FLEET-Q's dashboard as a viewer inside Snowflake (Streamlit in Snowflake, container runtime). The database, the schema,
-- the warehouse and the tables are there already: docs/snowflake.md says how.

-- 1. As an administrator: the app runs with the rights of its owner, so its owner may only look.
CREATE ROLE IF NOT EXISTS fleetq_viewer;
GRANT USAGE ON DATABASE fleetq TO ROLE fleetq_viewer;
GRANT USAGE ON SCHEMA fleetq.queue TO ROLE fleetq_viewer;
GRANT SELECT ON ALL TABLES IN SCHEMA fleetq.queue TO ROLE fleetq_viewer;
GRANT USAGE ON WAREHOUSE fleetq_wh TO ROLE fleetq_viewer;
GRANT CREATE STREAMLIT, CREATE STAGE ON SCHEMA fleetq.queue TO ROLE fleetq_viewer;
CREATE COMPUTE POOL IF NOT EXISTS fleetq_pool
  MIN_NODES = 1 MAX_NODES = 2 INSTANCE_FAMILY = CPU_X64_XS AUTO_RESUME = TRUE AUTO_SUSPEND_SECS = 600;
GRANT USAGE ON COMPUTE POOL fleetq_pool TO ROLE fleetq_viewer;

-- 2. The packages come from PyPI, which the container may not reach without this.
CREATE NETWORK RULE IF NOT EXISTS fleetq.queue.pypi
  MODE = EGRESS TYPE = HOST_PORT VALUE_LIST = ('pypi.org', 'files.pythonhosted.org');
CREATE EXTERNAL ACCESS INTEGRATION IF NOT EXISTS pypi_access_integration
  ALLOWED_NETWORK_RULES = (fleetq.queue.pypi) ENABLED = TRUE;
GRANT USAGE ON INTEGRATION pypi_access_integration TO ROLE fleetq_viewer;

-- 3. From a shell: python deploy/streamlit-in-snowflake/assemble.py /tmp/fleetq-viewer
--    and then either, in that folder, `snow streamlit deploy --replace`, or
--    `snow stage copy /tmp/fleetq-viewer @fleetq.queue.viewer --recursive` after the stage is made, and the rest of this:
USE ROLE fleetq_viewer;
CREATE STAGE IF NOT EXISTS fleetq.queue.viewer;
CREATE OR REPLACE STREAMLIT fleetq.queue.fleetq_viewer
  FROM '@fleetq.queue.viewer'
  MAIN_FILE = 'viewer/streamlit_app.py'
  RUNTIME_NAME = 'SYSTEM$ST_CONTAINER_RUNTIME_PY3_11'
  COMPUTE_POOL = fleetq_pool
  QUERY_WAREHOUSE = fleetq_wh
  EXTERNAL_ACCESS_INTEGRATIONS = (pypi_access_integration)
  TITLE = 'FLEET-Q';
ALTER STREAMLIT fleetq.queue.fleetq_viewer ADD LIVE VERSION FROM LAST;

-- 4. Who may see it.
GRANT USAGE ON STREAMLIT fleetq.queue.fleetq_viewer TO ROLE fleetq_operator;
