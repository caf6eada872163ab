"""schema.py - as much of JSON Schema as docs/controller-openapi.yaml uses, to hold messages against it."""
import re


class Schemas:
    def __init__(self, document):
        self.all = document["components"]["schemas"]

    def errors(self, name, value, strict=True):
        """What is wrong with VALUE, in words. STRICT: a member that is not described is wrong too, as
        the agent sends none (a receiver, though, has to ignore it)."""
        return list(self.walk({"$ref": f"#/components/schemas/{name}"}, value, name, strict))

    def walk(self, s, v, at, strict):
        if "$ref" in s:
            s = self.all[s["$ref"].rsplit("/", 1)[1]]
            yield from self.walk(s, v, at, strict)
            return
        for many in ("oneOf", "anyOf"):
            if many in s:
                found = [list(self.walk(o, v, at, strict)) for o in s[many]]
                good = sum(not f for f in found)
                if good == 0 or (many == "oneOf" and good > 1):
                    best = min(found, key=len)
                    yield f"{at}: {good} of {len(found)} forms fit; the nearest: {'; '.join(best)}"
        kinds = s.get("type", [])
        if kinds and not any(is_a(v, k) for k in ([kinds] if isinstance(kinds, str) else kinds)):
            yield f"{at}: {v!r} is not of type {kinds}"
            return
        if "enum" in s and v not in s["enum"]:
            yield f"{at}: {v!r} is none of {s['enum']}"
        if "const" in s and v != s["const"]:
            yield f"{at}: {v!r} is not {s['const']!r}"
        if isinstance(v, str):
            yield from self.text(s, v, at)
        elif isinstance(v, dict):
            yield from self.members(s, v, at, strict)
        elif isinstance(v, list):
            if not s.get("minItems", 0) <= len(v) <= s.get("maxItems", len(v)):
                yield f"{at}: {len(v)} items"
            if s.get("uniqueItems") and len({repr(i) for i in v}) != len(v):
                yield f"{at}: an item twice"
            for i, item in enumerate(v):
                yield from self.walk(s.get("items", {}), item, f"{at}[{i}]", strict)
        elif is_a(v, "number"):
            if not s.get("minimum", v) <= v <= s.get("maximum", v):
                yield f"{at}: {v} is out of range"

    @staticmethod
    def text(s, v, at):
        if "pattern" in s and not re.search(s["pattern"], v):
            yield f"{at}: {v!r} does not match {s['pattern']}"
        if not s.get("minLength", 0) <= len(v) <= s.get("maxLength", len(v)):
            yield f"{at}: {len(v)} characters"
        if s.get("format") == "date-time" and not re.fullmatch(
                r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", v):
            yield f"{at}: {v!r} is no time of RFC 3339"

    def members(self, s, v, at, strict):
        for name in s.get("required", []):
            if name not in v:
                yield f"{at}: {name} is missing"
        others = s.get("additionalProperties", not (strict and "properties" in s))
        for name, member in v.items():
            here = f"{at}.{name}"
            if "propertyNames" in s:
                yield from self.walk(s["propertyNames"], name, f"{here} (its name)", strict)
            if name in s.get("properties", {}):
                yield from self.walk(s["properties"][name], member, here, strict)
            elif others is False:
                yield f"{here}: not described"
            elif isinstance(others, dict):
                yield from self.walk(others, member, here, strict)


def is_a(v, kind):
    if kind == "number":
        return isinstance(v, (int, float)) and not isinstance(v, bool)
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int}
    return isinstance(v, kinds[kind]) and not (kind == "integer" and isinstance(v, bool))
