#!/usr/bin/env python3
"""check_docs.py - docs/protocol.md, docs/controller-openapi.yaml and the example controller say the same.

  check_docs.py                 the documents and controller.py
  check_docs.py --record FILE   what real agents sent to a controller with --record, against the schema
"""
import json
import pathlib
import re
import sys
import unittest

import yaml  # a test of ours needs it, the controller does not

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from controller import Controller  # noqa: E402
from fake_agent import FakeAgent  # noqa: E402
from fleet import state_hash  # noqa: E402
from schema import Schemas  # noqa: E402

DOCS = HERE.parent.parent / "docs"
DOCUMENT = yaml.safe_load((DOCS / "controller-openapi.yaml").read_text(encoding="utf-8"))
SCHEMAS = Schemas(DOCUMENT)
TEXT = (DOCS / "protocol.md").read_text(encoding="utf-8")
HEARTBEAT_MAX = 200  # bytes, a promise of protocol.md


def examples():
    """[(schema's name, text)]: each block of JSON follows a comment that names its schema."""
    return re.findall(r"<!-- schema: (\w+) -->\n```json\n(.*?)```", TEXT, re.DOTALL)


class Documents(unittest.TestCase):
    def test_the_controller_serves_what_is_described(self):
        served = {(method.lower(), path) for method, path, _ in Controller(None).agent_routes()}
        described = {(method, path) for path, item in DOCUMENT["paths"].items() for method in item
                     if method != "parameters"}
        self.assertEqual(served, described)

    def test_protocol_names_the_same_calls(self):
        named = {(m.lower(), p.split("?")[0].replace("AGENT", "{agent}"))
                 for m, p in re.findall(r"`(GET|POST) (/v1/[^`]+)`", TEXT)}
        self.assertEqual(named, {(method, path) for path, item in DOCUMENT["paths"].items() for method in item
                                 if method != "parameters"})

    def test_every_example_fits_its_schema(self):
        found = examples()
        self.assertEqual(len(found), len(re.findall(r"^```json", TEXT, re.MULTILINE)), "a block without a schema")
        self.assertGreaterEqual({name for name, _ in found}, {"Register", "Session", "Dyno", "Report", "Exit", "Result",
                                                              "Heartbeat", "Commands"})
        for name, text in found:
            self.assertEqual(SCHEMAS.errors(name, json.loads(text)), [], name)

    def test_hashes_in_examples_are_right(self):
        for name, text in examples():
            value = json.loads(text)
            if name == "Register":
                self.assertEqual(value["state"]["hash"], state_hash(value["state"]["dynos"]))
            if name == "Report":
                self.assertEqual(value["hash"], state_hash(value["dynos"]))

    def test_the_heartbeat_is_as_small_as_it_says(self):
        beats = [json.dumps(json.loads(text), separators=(",", ":")) for name, text in examples()
                 if name == "Heartbeat"]
        self.assertTrue(beats and all(len(b) < HEARTBEAT_MAX for b in beats))

    def test_every_operation_and_code_is_described_in_both(self):
        commands = [o["$ref"].rsplit("/", 1)[1] for o in DOCUMENT["components"]["schemas"]["Command"]["oneOf"]]
        ops = {DOCUMENT["components"]["schemas"][c]["properties"]["op"]["const"] for c in commands}
        self.assertEqual(ops, set(re.findall(r"^\| `(\w+)` \| .*\|.*\|$", TEXT.split("## Commands")[1].split("\n## ")[0],
                                             re.MULTILINE)))
        error = DOCUMENT["components"]["schemas"]["Result"]["properties"]["error"]["anyOf"][1]
        codes = re.search(r"^Codes: (.*?)\.$", TEXT, re.MULTILINE | re.DOTALL).group(1)
        self.assertEqual(set(error["properties"]["code"]["enum"]), set(re.findall(r"`([\w-]+)`", codes)) - {"failed"})
        self.assertLessEqual({m[3:] for m in dir(FakeAgent) if m.startswith("do_")}, ops)

    def test_the_checker_finds_what_is_wrong(self):
        good = json.loads(next(text for name, text in examples() if name == "Dyno"))
        for bad in ({**good, "port": "20011"}, {**good, "state": "sideways"}, {**good, "more": 1}, {**good, "app": "A"},
                    {k: v for k, v in good.items() if k != "run"}, {**good, "since": "yesterday"},
                    {**good, "port": 65536}, {**good, "up": 1}):
            self.assertTrue(SCHEMAS.errors("Dyno", bad), bad)
        start = {"id": "c-1", "generation": 1, "op": "start", "app": "shop", "dynos": []}
        self.assertFalse(SCHEMAS.errors("Command", start))
        self.assertTrue(SCHEMAS.errors("Command", {**start, "op": "begin"}))
        self.assertFalse(SCHEMAS.errors("Dyno", {**good, "more": 1}, strict=False))


def check_record(path):
    """Every message is as described; each kind was seen; small ones are small."""
    seen, wrong = {}, []
    for line in open(path, encoding="utf-8"):
        message = json.loads(line)
        name, body = message["schema"], message["body"]
        seen[name] = seen.get(name, 0) + 1
        wrong += [f"{e} in {json.dumps(body)[:2000]}" for e in SCHEMAS.errors(name, body)]
        if name == "Heartbeat" and len(json.dumps(body, separators=(",", ":"))) >= HEARTBEAT_MAX:
            wrong.append(f"a heartbeat of {HEARTBEAT_MAX} bytes or more: {body}")
    wrong += [f"no {name} was seen" for name in ("Register", "Report", "Heartbeat") if name not in seen]
    print(*wrong[:10], sep="\n")
    print(f"{sum(seen.values())} messages, {len(wrong)} of them wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--record"]:
        sys.exit(check_record(sys.argv[2]))
    unittest.main()
