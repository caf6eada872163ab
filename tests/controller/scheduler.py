"""scheduler.py - which dyno belongs on which agent. Pure: views in, a plan out.

A place is (app, dyno, agent) with a role:
  home     the dyno belongs there
  leaving  its home is another agent now; it runs on here until that one is up
  ending   it was told to stop here, and nothing may replace it before it has ended: for process types
           with `stop_after`, of which there must never be two
"""
from collections import defaultdict
from dataclasses import dataclass, field

# The agent stops a `stop_after` type that long after its last contact, and stopping takes time.
ENDING_MARGIN_SEC = 45


@dataclass
class View:
    """What the scheduler knows of one agent."""
    usable: bool = True        # may get new dynos: alive, not draining, obeys this store
    abandoned: bool = False    # its dynos should be elsewhere: draining or lost
    lost_sec: float = 0        # how long it has been silent; 0: it is alive
    room: int = 1000           # dynos that it may have
    up: frozenset = frozenset()       # "app/dyno" that serve
    running: frozenset = frozenset()  # "app/dyno" that have a process


@dataclass
class Plan:
    places: dict
    starts: dict = field(default_factory=lambda: defaultdict(list))  # (agent, app): [dyno]
    stops: dict = field(default_factory=lambda: defaultdict(list))


def plan(apps, places, agents):
    """APPS: {app: {"release", "dynos"}}, PLACES: {(app, dyno, agent): role}, AGENTS: {agent: View}."""
    p = Plan(dict(places))
    for key, role in places.items():
        settle(p, apps, agents, key, role)
    for app, want in apps.items():
        for dyno in want["dynos"]:
            place(p, apps, agents, app, dyno)
    return p


def settle(p, apps, agents, key, role):
    """Ends what is not wanted there any more, as soon as it may."""
    app, dyno, agent = key
    wanted = app in apps and dyno in apps[app]["dynos"]
    home = home_of(p, app, dyno)
    if role == "ending":
        if not may_run(apps, agents[agent], app, dyno):
            del p.places[key]
    elif role == "leaving" and not home:
        p.places[key] = "home"  # the other agent would not have it
    elif not wanted or (role == "leaving" and f"{app}/{dyno}" in agents[home].up):
        stop(p, apps, key)


def stop(p, apps, key):
    app, dyno, agent = key
    p.stops[agent, app].append(dyno)
    if app in apps and type_of(dyno) in apps[app]["release"].get("stop_after", {}):
        p.places[key] = "ending"
    else:
        del p.places[key]


def place(p, apps, agents, app, dyno):
    """Gives one wanted dyno a home when it has none, or has to leave the one that it has."""
    home = home_of(p, app, dyno)
    if any(k[:2] == (app, dyno) and role == "ending" for k, role in p.places.items()):
        return
    if home and not agents[home].abandoned:
        return
    if home and type_of(dyno) in apps[app]["release"].get("stop_after", {}):
        stop(p, apps, (app, dyno, home))
        return
    new = choose(p, agents, app, dyno)
    if new is None:
        return
    if home:
        p.places[app, dyno, home] = "leaving"
    p.places[app, dyno, new] = "home"
    p.starts[new, app].append(dyno)


def choose(p, agents, app, dyno):
    """The usable agent with the fewest dynos of this app, then of all apps; None when all are full."""
    def load(agent):
        there = [k for k in p.places if k[2] == agent]
        return sum(k[0] == app for k in there), len(there), agent

    free = [a for a, v in agents.items() if v.usable and (app, dyno, a) not in p.places and load(a)[1] < v.room]
    return min(free, key=load, default=None)


def may_run(apps, view, app, dyno):
    if view.lost_sec == 0:
        return f"{app}/{dyno}" in view.running
    release = apps[app]["release"] if app in apps else {}
    return view.lost_sec < release.get("stop_after", {}).get(type_of(dyno), 0) + ENDING_MARGIN_SEC


def home_of(p, app, dyno):
    return next((k[2] for k, role in p.places.items() if k[:2] == (app, dyno) and role == "home"), None)


def type_of(dyno):
    return dyno.rpartition(".")[0]
