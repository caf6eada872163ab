"""store.py - what the controller remembers, in one SQLite file that survives its kill.

The file is the "store" of docs/protocol.md: it has an id of its own, made with it. Everything that an
acknowledgement promises (exits, results) is committed before the acknowledgement is sent.
"""
import json
import secrets
import sqlite3

COMMANDS_KEPT = 1000  # settled ones, for each agent
NOTICES_KEPT = 1000
EXITS_KEPT = 100_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL);
-- generation: the last number given out; floor: commands up to this one are never sent again.
CREATE TABLE IF NOT EXISTS agents(agent TEXT PRIMARY KEY, info TEXT NOT NULL,
  generation INTEGER NOT NULL DEFAULT 0, floor INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS commands(agent TEXT, generation INTEGER, id TEXT UNIQUE, body TEXT NOT NULL,
  result TEXT, PRIMARY KEY(agent, generation));
CREATE TABLE IF NOT EXISTS exits(n INTEGER PRIMARY KEY, id TEXT UNIQUE, agent TEXT, app TEXT,
  body TEXT NOT NULL, times INTEGER NOT NULL, differs INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS notices(n INTEGER PRIMARY KEY, agent TEXT, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS apps(app TEXT PRIMARY KEY, release TEXT NOT NULL, dynos TEXT NOT NULL);
-- Where dynos are meant to be. role: see scheduler.py.
CREATE TABLE IF NOT EXISTS places(app TEXT, dyno TEXT, agent TEXT, role TEXT NOT NULL,
  PRIMARY KEY(app, dyno, agent));
"""


class Store:
    def __init__(self, path):
        # Used under the fleet's lock only, by whichever thread has it.
        self.db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=FULL")
        self.db.executescript(SCHEMA)
        self.db.execute("INSERT OR IGNORE INTO meta VALUES('id', ?)", ("db-" + secrets.token_hex(6),))
        self.id = self.db.execute("SELECT value FROM meta WHERE key = 'id'").fetchone()[0]

    def __enter__(self):
        """One transaction: with store: ..."""
        self.db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind, value, trace):
        self.db.execute("COMMIT" if kind is None else "ROLLBACK")

    # --- agents -----------------------------------------------------------------------------------

    def agents(self):
        return {a: json.loads(info) for a, info in self.db.execute("SELECT agent, info FROM agents")}

    def agent_save(self, agent, info):
        self.db.execute(
            "INSERT INTO agents(agent, info) VALUES(?, ?) ON CONFLICT(agent) DO UPDATE SET info = excluded.info",
            (agent, json.dumps(info)))

    def agent_forget(self, agent):
        for table in ("agents", "commands", "places"):
            self.db.execute(f"DELETE FROM {table} WHERE agent = ?", (agent,))

    # --- commands ---------------------------------------------------------------------------------

    def numbering(self, agent):
        """The last generation given to AGENT, and its floor."""
        return self.db.execute("SELECT generation, floor FROM agents WHERE agent = ?", (agent,)).fetchone()

    def numbering_set(self, agent, generation, floor):
        self.db.execute("UPDATE agents SET generation = ?, floor = ? WHERE agent = ?", (generation, floor, agent))

    def command_add(self, agent, command):
        """Gives COMMAND its id and the next generation; returns the whole."""
        generation = self.numbering(agent)[0] + 1
        command = {"id": "c-" + secrets.token_hex(8), "generation": generation, **command}
        self.db.execute("UPDATE agents SET generation = ? WHERE agent = ?", (generation, agent))
        self.db.execute("INSERT INTO commands(agent, generation, id, body) VALUES(?, ?, ?, ?)",
                        (agent, generation, command["id"], json.dumps(command)))
        self.db.execute("DELETE FROM commands WHERE agent = ? AND result IS NOT NULL AND generation <= ?",
                        (agent, generation - COMMANDS_KEPT))
        return command

    def commands_after(self, agent, generation, limit):
        rows = self.db.execute(
            "SELECT body FROM commands WHERE agent = ? AND generation > ? ORDER BY generation LIMIT ?",
            (agent, max(generation, self.numbering(agent)[1]), limit))
        return [json.loads(body) for body, in rows]

    def commands(self, agent):
        rows = self.db.execute("SELECT body, result FROM commands WHERE agent = ? ORDER BY generation", (agent,))
        return [{**json.loads(body), "result": json.loads(result) if result else None} for body, result in rows]

    def command(self, agent, id):
        row = self.db.execute("SELECT body, result FROM commands WHERE agent = ? AND id = ?", (agent, id)).fetchone()
        return row and (json.loads(row[0]), json.loads(row[1]) if row[1] else None)

    def result_add(self, agent, result):
        """The first final answer counts: a replayed command's `duplicate` or `stale` hides no `done`."""
        self.db.execute(
            "UPDATE commands SET result = ? WHERE agent = ? AND id = ? AND "
            "(result IS NULL OR json_extract(result, '$.status') = 'failed')",
            (json.dumps(result), agent, result["id"]))

    # --- exits and notices ------------------------------------------------------------------------

    def exit_add(self, agent, exit):
        """One for each id. `times` counts how often it came; `differs`, that it was told in two ways."""
        body = json.dumps(exit, sort_keys=True)
        self.db.execute(
            "INSERT INTO exits(id, agent, app, body, times) VALUES(?, ?, ?, ?, 1) ON CONFLICT(id) DO UPDATE SET "
            "times = times + 1, differs = differs OR body != excluded.body", (exit["id"], agent, exit["app"], body))
        self.db.execute("DELETE FROM exits WHERE n <= (SELECT max(n) FROM exits) - ?", (EXITS_KEPT,))

    def exits(self, limit=EXITS_KEPT):
        rows = self.db.execute("SELECT body, agent, times, differs FROM exits ORDER BY n DESC LIMIT ?", (limit,))
        return [{**json.loads(body), "agent": agent, "times": times, "differs": bool(differs)}
                for body, agent, times, differs in rows][::-1]

    def notice_add(self, agent, notice):
        self.db.execute("INSERT INTO notices(agent, body) VALUES(?, ?)", (agent, json.dumps(notice)))
        self.db.execute("DELETE FROM notices WHERE n <= (SELECT max(n) FROM notices) - ?", (NOTICES_KEPT,))

    def notices(self, limit=NOTICES_KEPT):
        rows = self.db.execute("SELECT body, agent FROM notices ORDER BY n DESC LIMIT ?", (limit,))
        return [{**json.loads(body), "agent": agent} for body, agent in rows][::-1]

    # --- what is wanted ---------------------------------------------------------------------------

    def apps(self):
        """{app: {"release": {..}, "dynos": ["web.1", ..]}}"""
        rows = self.db.execute("SELECT app, release, dynos FROM apps ORDER BY app")
        return {app: {"release": json.loads(release), "dynos": json.loads(dynos)} for app, release, dynos in rows}

    def app_save(self, app, release, dynos):
        self.db.execute("INSERT OR REPLACE INTO apps VALUES(?, ?, ?)", (app, json.dumps(release), json.dumps(dynos)))

    def places(self):
        """{(app, dyno, agent): role}"""
        rows = self.db.execute("SELECT app, dyno, agent, role FROM places")
        return {(app, dyno, agent): role for app, dyno, agent, role in rows}

    def places_save(self, places):
        self.db.execute("DELETE FROM places")
        self.db.executemany("INSERT INTO places VALUES(?, ?, ?, ?)", [(*key, role) for key, role in places.items()])
