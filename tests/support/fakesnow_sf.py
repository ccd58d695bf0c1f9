"""A stand-in for Snowflake, for tests only: the public fakesnow package (Apache-2.0, github.com/tekumara/fakesnow) with
the locks that a task queue needs. Written for this project around that package; kept as one dense file, not linted.

fakesnow_sf - fakesnow 0.12.1 HTTP server made usable for a task queue and for snowflake-connector-python 5.x.

  python fakesnow_sf.py --port 18083 [--db-path DIR] [--idle-tx 5] [--lock-timeout 30] [--timezone UTC] [--enforce-pk]

What it changes over plain fakesnow (everything is in this one file, nothing is edited on disk):
  A  import shims: snowflake.connector.converter / .file_util do not exist in connector 5.x
  B  login answer gains masterToken, validity, sessionId (required by the 5.x Rust core); AUTOCOMMIT sent as a string
  C  NULL timestamps (plain: 1970-01-01 on 4.x, fetch error on 5.x)
  D  no HTTP 500: every DuckDB error becomes a Snowflake style ProgrammingError (500 makes the client retry = re-execute)
  E  write lock + READ COMMITTED: one DML writer at a time, held to COMMIT/ROLLBACK, waits up to LOCK_TIMEOUT,
     000625 on timeout or >20 waiters; transaction starts at its first DML; statement error leaves the transaction open
  F  MERGE as ONE native DuckDB statement (plain: 3 statements, not atomic)
  G  PRIMARY KEY/UNIQUE/FK not enforced on standard tables (PK -> NOT NULL), enforced on HYBRID
  H  CREATE HYBRID TABLE .. INDEX, CREATE/DROP INDEX, ALTER SESSION, GRANT, CREATE WAREHOUSE accepted
  I  routes for 5.x async: /monitoring/queries//<id>, /queries/<id>/result, per-query abort, telemetry, token renewal
  J  requestId idempotency (joins one that still runs), bounded result cache, executemany (array binding) all-or-nothing, abort-request cancels a lock wait
  L  the 65 transforms of a statement are done once for each text; SYSDATE() is what ALTER SESSION SET FLEETQ_NOW says
  K  one statement at a time per session (plain: threads sharing a connection read each other's results)
"""
from __future__ import annotations
import argparse, asyncio, collections, contextlib, datetime as dt, decimal, functools, gzip, importlib.util, itertools, json, os, re, secrets, sys, threading, time, types, warnings

warnings.filterwarnings("ignore", message="Arrow output on a DB-API result.*")

# ---------------------------------------------------------------- A shims
def _shim(name, **attrs):
    if importlib.util.find_spec(name) is None:
        m = types.ModuleType(name)
        for k, v in attrs.items():
            setattr(m, k, v)
        sys.modules[name] = m
        parent, _, leaf = name.rpartition(".")
        setattr(importlib.import_module(parent), leaf, m)

class _Conv:  # only reached in patch mode with pyformat
    def to_snowflake(self, v): return v
    def escape(self, v): return v.replace("\\", "\\\\").replace("'", "\\'") if isinstance(v, str) else v
    def quote(self, v): return "NULL" if v is None else f"'{v}'" if isinstance(v, str) else str(v)

import snowflake.connector  # noqa: E402
_shim("snowflake.connector.converter", SnowflakeConverter=_Conv)
_shim("snowflake.connector.file_util", SnowflakeFileUtil=type("SnowflakeFileUtil", (), {}))

import duckdb, pyarrow as pa, pyarrow.compute as pc, sqlglot  # noqa: E402
import fakesnow.arrow, fakesnow.converter, fakesnow.cursor as fcur, fakesnow.server as fss  # noqa: E402
from fakesnow.instance import FakeSnow  # noqa: E402
from fakesnow.transforms.merge import operations as merge_operations  # noqa: E402
from snowflake.connector.errors import Error as SfError, ProgrammingError  # noqa: E402
from sqlglot import exp  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.concurrency import run_in_threadpool  # noqa: E402
from starlette.responses import JSONResponse  # noqa: E402
from starlette.routing import Route  # noqa: E402

CFG = types.SimpleNamespace(idle_tx=300.0, lock_timeout=43200.0, max_waiters=20, enforce_pk=False, timezone="UTC")

# ---------------------------------------------------------------- C timestamps
def _ts_struct(ts):
    if isinstance(ts, pa.ChunkedArray):
        ts = ts.combine_chunks()
    mask = pc.is_null(ts)
    us = pc.fill_null(ts.cast(pa.timestamp("us", tz=ts.type.tz)).cast(pa.int64()), 0)
    epoch = pc.floor(pc.divide(us.cast(pa.float64()), 1e6)).cast(pa.int64())
    frac = pc.multiply(pc.subtract(us, pc.multiply(epoch, 1_000_000)), 1000).cast(pa.int32())
    arrs = [epoch, frac]
    flds = [pa.field("epoch", pa.int64(), nullable=False), pa.field("fraction", pa.int32(), nullable=False)]
    if ts.type.tz:
        arrs.append(pa.array([1440] * len(ts), pa.int32()))
        flds.append(pa.field("timezone", pa.int32(), nullable=False))
    return pa.StructArray.from_arrays(arrs, fields=flds, mask=mask)
fakesnow.arrow.timestamp_to_sf_struct = _ts_struct

# ---------------------------------------------------------------- bindings
_orig_from_binding = fakesnow.converter.from_binding
def _from_binding(b):
    v, t = b["value"], b["type"]
    if v is None:
        return None
    if t == "FIXED":
        return int(v) if re.fullmatch(r"[+-]?\d+", v) else decimal.Decimal(v)
    if t == "REAL":
        return float(v)
    if t in ("TIMESTAMP_NTZ", "TIMESTAMP_LTZ"):
        d = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=int(v) // 1000)
        return d.replace(tzinfo=dt.UTC) if t.endswith("LTZ") else d
    return _orig_from_binding(b)
fss.from_binding = _from_binding

# ---------------------------------------------------------------- E lock and transactions
class WriteLock:
    def __init__(self):
        self.cond, self.owner, self.waiters = threading.Condition(), None, 0

    def acquire(self, s, timeout, what=""):
        with self.cond:
            if self.owner is s:
                return
            if self.owner is not None and self.waiters >= CFG.max_waiters:
                raise self._err(s, "the number of waiters for this lock exceeds the 20 statements limit")
            self.waiters += 1
            end = time.monotonic() + timeout
            try:
                while self.owner is not None:
                    if s.cancel:
                        raise ProgrammingError(msg="SQL execution canceled", errno=604, sqlstate="57014")
                    o = self.owner
                    if not o.busy and time.monotonic() - o.last > CFG.idle_tx:   # abandoned transaction
                        o.abort(); break
                    left = end - time.monotonic()
                    if left <= 0:
                        raise self._err(s, f"your statement was aborted because it waited longer than LOCK_TIMEOUT ({timeout:g} s)")
                    self.cond.wait(min(left, 0.5))
                self.owner = s
            finally:
                self.waiters -= 1

    def release(self, s):
        with self.cond:
            if self.owner is s:
                self.owner = None
                self.cond.notify_all()

    def _err(self, s, why):
        o = self.owner
        return ProgrammingError(msg=f"Statement '{getattr(o,'sfqid','?')}' has locked table in transaction {getattr(o,'txid',0)} and this lock has not yet been released. Your statement was aborted: {why}.", errno=625, sqlstate="57014")

_txids = itertools.count(1_700_000_000_000)

class Sess:
    """transaction state of one Snowflake session"""
    def __init__(self, conn, lock):
        self.conn, self.lock, self.autocommit, self.explicit, self.open, self.busy = conn, lock, True, False, False, False
        self.last, self.log, self.txid, self.params, self.mutex, self.sfqid, self.cancel = time.monotonic(), [], 0, {}, threading.RLock(), "?", False

    @property
    def timeout(self): return float(self.params.get("LOCK_TIMEOUT", CFG.lock_timeout))

    def begin_duck(self):
        if not self.open:
            try: self.conn._duck_conn.begin()
            except duckdb.Error as e:                      # an abort that came just now must not leave the lock behind
                with contextlib.suppress(duckdb.Error): self.conn._duck_conn.rollback()
                self.lock.release(self)
                raise _map_error(e) from e
            self.open, self.log, self.txid = True, [], next(_txids)

    def end(self, commit):
        try:
            if self.open:
                (self.conn._duck_conn.commit if commit else self.conn._duck_conn.rollback)()
        finally:
            self.open = self.explicit = False; self.log = []; self.lock.release(self)

    def abort(self):       # called by a waiter that holds lock.cond
        try: self.conn._duck_conn.rollback()
        except duckdb.Error: pass
        self.open = self.explicit = False; self.log = []; self.lock.owner = None; self.lock.cond.notify_all()

_locks: dict[int, WriteLock] = {}
def _sess(conn) -> Sess:
    s = getattr(conn, "_sf", None)
    if s is None:
        s = conn._sf = Sess(conn, _locks.setdefault(id(conn.results_cache), WriteLock()))
        if CFG.timezone != "UTC":
            conn._duck_conn.execute(f"SET TimeZone='{CFG.timezone}'")
    return s

_LEAD = re.compile(r"^(?:\s+|--[^\n]*\n|/\*.*?\*/)*", re.S)
_HYBRID = re.compile(r"^(CREATE\s+(?:OR\s+REPLACE\s+)?)HYBRID\s+(TABLE\b)", re.I)
_INLINE_INDEX = re.compile(r",\s*INDEX\s+(?:IF\s+NOT\s+EXISTS\s+)?[\w\"]+\s*\([^()]*\)(?:\s*INCLUDE\s*\([^()]*\))?", re.I)
_NOP = re.compile(r"^(CREATE\s+(OR\s+REPLACE\s+)?INDEX|DROP\s+INDEX|GRANT|REVOKE|CREATE\s+(OR\s+REPLACE\s+)?WAREHOUSE|ALTER\s+WAREHOUSE|ALTER\s+TABLE\s+\S+\s+(SET|UNSET)\s)", re.I)
_ALTER_SESSION = re.compile(r"^ALTER\s+SESSION\s+(SET|UNSET)\s+(\w+)\s*(?:=\s*(.*?))?\s*;?\s*$", re.I | re.S)
_FOR_UPDATE = re.compile(r"\bFOR\s+UPDATE(?:\s+(NOWAIT|WAIT\s+(\d+)))?\s*;?\s*$", re.I)
_OK = "SELECT 'Statement executed successfully.' AS status"
_SHOW_PARAMETERS = re.compile(r"^SHOW\s+PARAMETERS\s+IN\s+SESSION\s*;?\s*$", re.I)

def _session_parameters(s):    # the service shows every parameter of its own; here those that were asked for, and two defaults
    shown = {"AUTOCOMMIT": s.autocommit, "TIMEZONE": CFG.timezone} | {k: v for k, v in s.params.items() if k not in ("QUERY_TAG", "FLEETQ_NOW", "CLIENT_TELEMETRY_ENABLED")}
    def row(name, value):
        kind, text = ("BOOLEAN" if isinstance(value, bool) or str(value).lower() in ("true", "false") else "NUMBER" if str(value).isdigit() else "STRING"), str(value)
        text = (text.lower() if kind == "BOOLEAN" else text).replace("'", "''")
        return f"SELECT '{name}' AS \"key\", '{text}' AS \"value\", '' AS \"default\", 'SESSION' AS \"level\", '' AS \"description\", '{kind}' AS \"type\""
    return " UNION ALL ".join(row(k, v) for k, v in sorted(shown.items()))

def _map_error(e: Exception) -> SfError:
    m = str(e).split("\n")[0]
    n = type(e).__name__
    if n == "ConstraintException":
        if "NOT NULL" in m:
            return ProgrammingError(msg=f"NULL result in a non-nullable column ({m})", errno=100072, sqlstate="22000")
        return ProgrammingError(msg=f"Primary key already exists ({m})", errno=200001, sqlstate="22000")
    if n == "InvalidInputException" and "JSON" in m:
        return ProgrammingError(msg=f"Error parsing JSON: {m}", errno=100069, sqlstate="22P02")
    if n == "InvalidInputException" and "parameters" in m:
        return ProgrammingError(msg=f"Bind variable not set ({m})", errno=2049, sqlstate="42601")
    if "same target row more than once" in m:
        return ProgrammingError(msg=f"Duplicate row detected during DML action ({m})", errno=100090, sqlstate="42P18")
    if n == "InterruptException":
        return ProgrammingError(msg="SQL execution canceled", errno=604, sqlstate="57014")
    if n == "TransactionException":
        return ProgrammingError(msg=f"write conflict ({m})", errno=625, sqlstate="57014")
    return ProgrammingError(msg=f"{n}: {m}", errno=603, sqlstate="XX000")

# small textual rewrites, mostly for Snowpark (they do not look inside string literals: test helper, not a parser)
_SCOPED = re.compile(r"^(CREATE\s+(?:OR\s+REPLACE\s+)?)SCOPED\s+(TEMPORARY|TEMP)\b", re.I)
def _rewrite(s, cur, body):
    if "$" in body:
        if re.match(r"\s*SELECT\s+SYSTEM\$CANCEL_ALL_QUERIES", body, re.I): return "SELECT 'query [0] terminated.' AS STATUS"
        if re.search(r"\bFROM\s+VALUES\b", body, re.I): body = re.sub(r"\$(\d+)\b", r"column\1", body)
    if "CURRENT_" in body.upper():
        body = re.sub(r"\bCURRENT_SESSION\(\)", f"'{getattr(s, 'sid', 0)}'", body, flags=re.I)
        body = re.sub(r"\bCURRENT_WAREHOUSE\(\)", "'FAKE_WH'", body, flags=re.I)
        body = re.sub(r"\bCURRENT_TRANSACTION\(\)", f"'{s.txid}'" if s.open else "NULL::VARCHAR", body, flags=re.I)
    if "LAST_QUERY_ID" in body.upper(): body = re.sub(r"\bLAST_QUERY_ID\(\)", f"'{s.sfqid}'", body, flags=re.I)
    if "FLEETQ_NOW" in s.params: body = body.replace("SYSDATE()", "GETVARIABLE('fleetq_now')::TIMESTAMP_NTZ")
    return _SCOPED.sub(r"\1\2", body)

_orig_execute = fcur.FakeSnowflakeCursor.execute

_transformed: dict = {}
_orig_transform = fcur.FakeSnowflakeCursor._transform
def _transform(self, expression, params):
    if not isinstance(expression, (exp.Select, exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Union)):
        return _orig_transform(self, expression.copy(), params)
    key = (self._conn.database, self._conn.schema, self._sf_text)
    if key not in _transformed:
        if len(_transformed) > 512: _transformed.clear()
        _transformed[key] = _orig_transform(self, expression.copy(), params)
    return _transformed[key]
fcur.FakeSnowflakeCursor._transform = _transform
fcur.parse_one = functools.lru_cache(512)(fcur.parse_one)   # transforms work on copies, see above

def _raw(self, command, params, a, k):
    self._sf_text = command
    try:
        return _orig_execute(self, command, params, *a, **k)
    except SfError as e:
        if isinstance(e, ProgrammingError): raise
        raise ProgrammingError(msg=str(e), errno=getattr(e, "errno", 603) or 603, sqlstate=e.sqlstate) from e
    except Exception as e:
        raise _map_error(e) from e

def _execute(self, command, params=None, *a, **k):
    s = _sess(self._conn)
    with s.mutex:
        s.busy, s.cancel = True, False
        try:
            self._sf_desc = None
            r = _dispatch(self, s, command, params, a, k)
            if k.get("server"):                            # DESCRIBE here: under the session mutex and off the event loop
                try: self._sf_desc = _orig_describe_last(self)
                except SfError: raise
                except Exception as e: raise _map_error(e) from e
            return r
        finally:
            s.busy, s.last, s.sfqid = False, time.monotonic(), self._sfqid or s.sfqid

def _dispatch(self, s, command, params, a, k):
    body = command[_LEAD.match(command).end():]
    if (new := _rewrite(s, self, body)) != body: command = body = new
    word = (re.match(r"[A-Za-z]+", body) or [""])[0].upper()
    if ";" in body and len([x for x in sqlglot.parse(command, read="snowflake") if x and not isinstance(x, exp.Semicolon)]) > 1 and word != "BEGIN":
        raise ProgrammingError(msg="Actual statement count did not match the desired statement count 1.", errno=8, sqlstate="0A000")
    if word in ("BEGIN", "START") and re.match(r"(BEGIN(\s+(WORK|TRANSACTION))?(\s+NAME\s+\w+)?|START\s+TRANSACTION(\s+NAME\s+\w+)?)\s*;?\s*$", body, re.I):
        s.explicit = True                                  # BEGIN inside a transaction is ignored
        return _raw(self, _OK, None, (), {})
    if word in ("COMMIT", "ROLLBACK"):
        try: s.end(word == "COMMIT")
        except duckdb.Error as e: raise _map_error(e) from e
        return _raw(self, _OK, None, (), {})
    if m := _ALTER_SESSION.match(body):
        op, name, val = m[1].upper(), m[2].upper(), (m[3] or "").strip().strip("'")
        if op == "UNSET": s.params.pop(name, None)
        else: s.params[name] = val
        if name == "AUTOCOMMIT":
            s.end(True); s.autocommit = op == "UNSET" or val.lower() in ("true", "1")
        elif name == "FLEETQ_NOW":
            self._duck_conn.execute(f"SET VARIABLE fleetq_now = TIMESTAMP '{val}'")
        elif name == "TIMEZONE" and val:
            self._duck_conn.execute(f"SET TimeZone='{val}'")
        return _raw(self, _OK, None, (), {})
    if _NOP.match(body):
        return _raw(self, _OK, None, (), {})
    if _SHOW_PARAMETERS.match(body):
        return _raw(self, _session_parameters(s), None, (), {})
    if _HYBRID.match(body):
        command = _INLINE_INDEX.sub("", _HYBRID.sub(r"\1\2", body)); self._sf_hybrid = True
    else:
        self._sf_hybrid = False
    if word in ("INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE") or (word == "WITH" and re.search(r"\b(INSERT|UPDATE|DELETE|MERGE)\b", body, re.I) and not re.match(r"WITH.*\)\s*SELECT\b", body, re.I | re.S)):
        return _dml(self, s, command, params, a, k)
    if word == "SELECT" and (m := _FOR_UPDATE.search(body)) and (s.explicit or not s.autocommit):
        s.lock.acquire(s, float(m[2] or 0)); s.begin_duck()
        return _in_tx(self, s, command, params, a, k)
    if word in ("CREATE", "ALTER", "DROP", "UNDROP", "COMMENT"):
        if s.open or s.explicit: s.end(True)               # DDL commits the open transaction
        s.lock.acquire(s, s.timeout)
        try: return _raw(self, command, params, a, k)
        finally: s.lock.release(s)
    return _in_tx(self, s, command, params, a, k) if s.open else _raw(self, command, params, a, k)

def _in_tx(self, s, command, params, a, k):
    try:
        return _raw(self, command, params, a, k)
    except ProgrammingError:                               # DuckDB aborts the whole transaction, Snowflake only the statement
        conn = self._conn._duck_conn
        with contextlib.suppress(duckdb.Error): conn.rollback()
        conn.begin()
        for c, p, aa, kk in s.log: _raw(self, c, p, aa, kk)
        raise

def _dml(self, s, command, params, a, k):
    s.lock.acquire(s, s.timeout)
    if s.explicit or not s.autocommit:
        s.begin_duck()
        r = _in_tx(self, s, command, params, a, k)
        s.log.append((command, params, a, k))
        return r
    s.begin_duck()
    try:
        r = _raw(self, command, params, a, k)
    except BaseException:
        with contextlib.suppress(duckdb.Error): s.end(False)
        raise
    try: s.end(True)
    except duckdb.Error as e: raise _map_error(e) from e
    return r

fcur.FakeSnowflakeCursor.execute = _execute

def _describe_last(self):
    d = getattr(self, "_sf_desc", None)
    return d if d is not None else _orig_describe_last(self)
def _orig_describe_last(self):                             # plain: parses and writes the statement once more for it
    if not re.match(r"\s*(SELECT|WITH|FROM)\b", self._last_sql or "", re.I): return _plain_describe_last(self)
    with self._conn.cursor() as cur:
        return cur._duck_conn.execute(f"DESCRIBE {self._last_sql}", self._last_params).fetchall()
_plain_describe_last = fcur.FakeSnowflakeCursor._describe_last_sql
fcur.FakeSnowflakeCursor._describe_last_sql = _describe_last

_orig_describe_only = fcur.FakeSnowflakeCursor._describe_only
def _describe_only(self, command):
    try: return _orig_describe_only(self, _rewrite(_sess(self._conn), self, command))
    except SfError: raise
    except Exception as e: raise _map_error(e) from e
fcur.FakeSnowflakeCursor._describe_only = _describe_only

# ---------------------------------------------------------------- F native MERGE, G constraints, UPDATE alias
def _unqualify_sets(sets):
    for e in sets:
        if isinstance(e, exp.EQ) and isinstance(e.this, exp.Column):
            e.this.set("table", None)

_orig_explode = fcur.FakeSnowflakeCursor._transform_explode
def _explode(self, e):
    if isinstance(e, exp.Merge):
        for w in e.args["whens"].expressions if hasattr(e.args["whens"], "expressions") else e.args["whens"]:
            if isinstance(w.args.get("then"), exp.Update): _unqualify_sets(w.args["then"].expressions)
        return [e]
    if isinstance(e, exp.Update):
        _unqualify_sets(e.expressions)
    if isinstance(e, exp.Create) and e.kind == "TABLE" and not CFG.enforce_pk and not getattr(self, "_sf_hybrid", False) and isinstance(e.this, exp.Schema):
        pk, keep = set(), []
        for x in e.this.expressions:
            if isinstance(x, exp.ColumnDef):
                cons = []
                for c in x.args.get("constraints") or []:
                    kind = c.args.get("kind")
                    if isinstance(kind, exp.PrimaryKeyColumnConstraint): pk.add(x.name.upper()); continue
                    if isinstance(kind, (exp.UniqueColumnConstraint, exp.Reference)): continue
                    cons.append(c)
                x.set("constraints", cons); keep.append(x)
            elif isinstance(x, exp.PrimaryKey): pk |= {c.name.upper() for c in x.expressions}
            elif isinstance(x, (exp.ForeignKey, exp.UniqueColumnConstraint)): pass
            elif isinstance(x, exp.Constraint) and x.find(exp.PrimaryKey, exp.ForeignKey, exp.UniqueColumnConstraint):
                if p := x.find(exp.PrimaryKey): pk |= {c.name.upper() for c in p.expressions}
            else: keep.append(x)
        e.this.set("expressions", keep)
        for x in keep:
            if isinstance(x, exp.ColumnDef) and x.name.upper() in pk and not any(isinstance(c.args.get("kind"), exp.NotNullColumnConstraint) for c in x.args.get("constraints") or []):
                x.append("constraints", exp.ColumnConstraint(kind=exp.NotNullColumnConstraint()))
    return _orig_explode(self, e)
fcur.FakeSnowflakeCursor._transform_explode = _explode

_orig__execute = fcur.FakeSnowflakeCursor._execute
def __execute(self, transformed, params=None):
    if not isinstance(transformed, exp.Merge):
        return _orig__execute(self, transformed, params)
    ops = merge_operations(transformed)
    sql = transformed.sql(dialect="duckdb") + " RETURNING merge_action"
    try:
        acts = collections.Counter(r[0] for r in self._duck_conn.execute(sql, params).fetchall())
    except duckdb.BinderException as e:
        raise ProgrammingError(msg=e.args[0], errno=904, sqlstate="42000") from e
    except duckdb.CatalogException as e:
        raise ProgrammingError(msg=str(e).split("\n")[0], errno=2003, sqlstate="42S02") from e
    names = {"inserted": "INSERT", "updated": "UPDATE", "deleted": "DELETE"}
    cols = ", ".join(f"""{acts.get(names[op], 0)} AS "number of rows {op}" """ for op, idx in ops.items() if idx)
    _orig__execute(self, sqlglot.parse_one(f"SELECT {cols}", read="duckdb"), None)
    self._rowcount = sum(acts.values())
fcur.FakeSnowflakeCursor._execute = __execute

# ---------------------------------------------------------------- server
class LRU(collections.OrderedDict):
    def __init__(self, n): super().__init__(); self.n = n
    def __setitem__(self, k, v):
        super().__setitem__(k, v)
        while len(self) > self.n: self.popitem(last=False)

_sid = itertools.count(1001)
_running: dict = {}                                    # requestIds that run now
_by_request, _by_query = LRU(512), LRU(32)            # DML answers by requestId; last answers by query id
_PREFIX = re.compile(r"^(?:\d{6} \([0-9A-Z]{5}\): )+")

async def login(request):
    raw = await request.body()
    if request.headers.get("Content-Encoding") == "gzip": raw = gzip.decompress(raw)
    sp = {k.upper(): v for k, v in (json.loads(raw)["data"].get("SESSION_PARAMETERS") or {}).items()}
    d = json.loads((await fss.login_request(request)).body)
    sid = next(_sid)
    d["data"] |= {"masterToken": secrets.token_urlsafe(16), "validityInSeconds": 3600, "masterValidityInSeconds": 14400, "sessionId": sid}
    conn = fss.sessions[d["data"]["token"]]
    conn._autocommit = True                                 # our layer owns transactions
    s = _sess(conn); s.params = dict(sp); s.sid = sid
    s.autocommit = str(sp.get("AUTOCOMMIT", True)).lower() not in ("false", "0")
    if sp.get("TIMEZONE"): conn._duck_conn.execute(f"SET TimeZone='{sp['TIMEZONE']}'")
    for p in d["data"]["parameters"]:
        if p["name"] == "AUTOCOMMIT": p["value"] = s.autocommit
    return JSONResponse(d)

async def query(request):
    rid = request.query_params.get("requestId")
    rid = rid and (request.headers.get("Authorization"), rid)
    while rid in _running:                                  # client retry of a request that still runs: join it
        await _running[rid].wait()
    if rid and rid in _by_request:                          # client retry of a request we already ran
        return JSONResponse(_by_request[rid])
    if not rid: return await _query(request, rid)
    _running[rid] = asyncio.Event()
    try: return await _query(request, rid)
    finally: _running.pop(rid).set()

async def _query(request, rid):
    raw = await request.body()                              # starlette caches it for fakesnow
    if request.headers.get("Content-Encoding") == "gzip": raw = gzip.decompress(raw)
    binds = (json.loads(raw).get("bindings") or {}).values()
    conn = fss.sessions.get((request.headers.get("Authorization") or "")[17:-1])
    s = _sess(conn) if conn else None
    batch = bool(s and s.autocommit and not s.explicit and any(isinstance(b.get("value"), list) for b in binds))
    if batch: s.explicit = True                             # an array binding is ONE statement: all rows or none
    try:
        r = await fss.query_request(request)
    except Exception as e:                                  # eg an unmapped result column type
        r = JSONResponse({"message": f"{type(e).__name__}: {e}"}, status_code=500)
    d = json.loads(r.body)
    if batch: await run_in_threadpool(s.end, bool(d.get("success")))
    if r.status_code == 500:                                # bug or unsupported: answer as an SQL error, not as HTTP 500
        d = {"data": {"errorCode": "000603", "sqlState": "XX000"}, "code": "000603", "message": d.get("message") or "internal error", "success": False}
    elif r.status_code != 200:
        return r
    if not d.get("success") and isinstance(d.get("message"), str):
        d["message"] = _PREFIX.sub("", d["message"])
        d["data"].setdefault("queryId", f"01{secrets.token_hex(15)[:6]}-{secrets.token_hex(2)}-{secrets.token_hex(2)}-{secrets.token_hex(2)}-{secrets.token_hex(6)}")
    if rid and (d.get("data") or {}).get("statementTypeId") in fss.DML_TYPE_IDS: _by_request[rid] = d
    if qid := (d.get("data") or {}).get("queryId"): _by_query[qid] = d
    return JSONResponse(d)

async def query_status(request):
    d = _by_query.get(request.path_params["qid"])
    if not d: return JSONResponse({"data": {"queries": []}, "success": True})
    q = {"id": request.path_params["qid"], "status": "SUCCESS" if d["success"] else "FAILED_WITH_ERROR", "state": "SUCCEEDED"}
    if not d["success"]: q |= {"errorCode": str(int(d["code"])), "errorMessage": d["message"]}
    return JSONResponse({"data": {"queries": [q]}, "success": True})

async def query_result(request):
    d = _by_query.get(request.path_params["qid"])
    return JSONResponse(d or {"data": {}, "code": "000709", "message": "Statement not found", "success": False})

async def session(request):
    if request.query_params.get("delete") and (auth := request.headers.get("Authorization")) and (c := fss.sessions.get(auth[17:-1])):
        s = _sess(c)
        try: s.end(False)
        except duckdb.Error: pass
    return await fss.session(request)

async def abort(request):                                   # client timeout / cancel: both connector lines send this
    if (c := fss.sessions.get((request.headers.get("Authorization") or "")[17:-1])) and (s := _sess(c)).busy:
        with s.lock.cond: s.cancel = True; s.lock.cond.notify_all()
        with contextlib.suppress(Exception): c._duck_conn.interrupt()
    return await ok(request)

async def token(request):                                   # a renewed session goes on under the token it had
    raw = await request.body()
    if request.headers.get("Content-Encoding") == "gzip": raw = gzip.decompress(raw)
    return JSONResponse({"data": {"sessionToken": json.loads(raw)["oldSessionToken"], "masterToken": secrets.token_urlsafe(16), "validityInSecondsST": 3600, "validityInSecondsMT": 14400, "sessionId": 1}, "success": True})

async def ok(request): return JSONResponse({"data": None, "code": None, "message": None, "success": True})

_mine = [Route("/session/v1/login-request", login, methods=["POST"]), Route("/queries/v1/query-request", query, methods=["POST"]),
         Route("/monitoring/queries//{qid}", query_status, methods=["GET"]), Route("/monitoring/queries/{qid}", query_status, methods=["GET"]),
         Route("/queries/{qid}/result", query_result, methods=["GET"]), Route("/queries/{qid}/abort-request", abort, methods=["POST"]), Route("/queries/v1/abort-request", abort, methods=["POST"]),
         Route("/session", session, methods=["POST"]), Route("/session/token-request", token, methods=["POST"]),
         Route("/telemetry/send", ok, methods=["POST"]), Route("/telemetry/send/sessionless", ok, methods=["POST"])]
app = Starlette(routes=_mine + [r for r in fss.routes if r.path not in {m.path for m in _mine}])

def setup(db_path=None, **cfg):
    for k, v in cfg.items():
        if v is not None: setattr(CFG, k, v)
    fss.shared_fs = FakeSnow(db_path=db_path)
    fss.shared_fs.results_cache = LRU(32)
    fss.sessions.clear()
    fss.logger.setLevel("ERROR")

if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--port", type=int, required=True); ap.add_argument("--db-path"); ap.add_argument("--idle-tx", type=float, dest="idle_tx"); ap.add_argument("--lock-timeout", type=float, dest="lock_timeout")
    ap.add_argument("--timezone"); ap.add_argument("--enforce-pk", action="store_true", dest="enforce_pk"); ap.add_argument("--access-log", action="store_true")
    ap.add_argument("--until-eof", action="store_true", dest="until_eof")
    o = ap.parse_args()
    import uvicorn
    if o.until_eof:                                         # whoever started us is gone: leave too, however it went
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    setup(o.db_path, idle_tx=o.idle_tx, lock_timeout=o.lock_timeout, timezone=o.timezone, enforce_pk=o.enforce_pk)
    from server_faults import FaultLayer                     # what tests break on purpose
    uvicorn.run(FaultLayer(app), host="127.0.0.1", port=o.port, log_level="info" if o.access_log else "warning", access_log=o.access_log)
