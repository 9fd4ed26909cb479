"""Which messages of which nodes go to which REST endpoint, by a tenant's Rules and RuleEndpoints. Pure.

A rule from `eventbus` takes messages of NAMESPACE/TOPIC of the broker of one node, as in KubeEdge; one from `servicebus` what programs of that node ask
for by a URL. Lives elsewhere: rules from `rest`, which are called (kubeedge.apiserver.rule_calls).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kubeedge.api import meta, rules
from kubeedge.api.names import NamespacedName, NodeName, Object
from kubeedge.api.rules import RestTarget
from kubeedge.errors import Invalid

OF_NODE, OF_TENANT = 12, 256  # rules: the messages of a node have 16 readers
SECRET = "secret"  # property of a RuleEndpoint of type rest: a Secret of its namespace


@dataclass(frozen=True, slots=True)
class MessageRoute:
    """One rule. `wanted`: a filter of topics (kubeedge.api.rules.SERVICES and a URL for requests); `secret`: the name of a Secret, "": none."""

    key: NamespacedName
    uid: str
    node: NodeName
    wanted: str
    target: RestTarget
    secret: str = ""

    @property
    def reader(self) -> str:
        """Its name among those who read the node's messages; a rule that is made anew is another one."""
        return reader_of(self.uid)

    def has(self, topic: str) -> bool:
        """Messages of that topic are for it."""
        if self.wanted.startswith(rules.SERVICES):
            return topic == self.wanted
        return rules.topic_matches(self.wanted, topic)


READER = "rule."


def reader_of(uid: str) -> str:
    """The name by which a rule reads."""
    return f"{READER}{uid}"


def readers(found: Iterable[Object]) -> set[tuple[NodeName, str]]:
    """(node, reader) of all rules, also of those that lead nowhere for now."""
    return {
        (
            NodeName(rules.text_of(rule, "sourceResource", "node_name")),
            reader_of(str(meta.metadata(rule).get("uid") or "")),
        )
        for rule in found
    }


def routes(
    found: Iterable[Object], endpoints: Mapping[NamespacedName, Object]
) -> tuple[list[MessageRoute], dict[NamespacedName, str]]:
    """(the routes of all rules from a node, why rules have none)."""
    made: list[MessageRoute] = []
    wrong: dict[NamespacedName, str] = {}
    of_node: Counter[str] = Counter()
    for rule in sorted(found, key=lambda one: (meta.namespace_of(one), meta.name_of(one))):
        key = meta.namespace_of(rule), meta.name_of(rule)
        try:
            route = _route(key, rule, endpoints)
            if route is None:
                continue
            of_node[route.node] += 1
            if of_node[route.node] > OF_NODE or len(made) >= OF_TENANT:
                raise Invalid(f"a node has at most {OF_NODE} such rules, and a tenant {OF_TENANT}")
            made.append(route)
        except Invalid as exc:
            wrong[key] = str(exc)
    return made, wrong


def _route(key: NamespacedName, rule: Object, endpoints: Mapping[NamespacedName, Object]) -> MessageRoute | None:
    """None: the rule is from rest, and can be called. Raises Invalid."""
    spec = rule.get("spec") or {}
    source, target = (endpoints.get((key[0], str(spec.get(side) or ""))) for side in ("source", "target"))
    if source is None:
        raise Invalid(f"there is no RuleEndpoint {spec.get('source')} in this namespace")
    kind = rules.kind_of(source)
    if target is None:
        raise Invalid(f"there is no RuleEndpoint {spec.get('target')} in this namespace")
    if kind == rules.REST:
        _callable(rule, rules.kind_of(target))
        return None
    if rules.kind_of(target) != rules.REST:
        raise Invalid(f"a rule from {kind[:64]} goes to rest, and not to {rules.kind_of(target)[:64]}")
    node = rules.text_of(rule, "sourceResource", "node_name")
    if not node:
        raise Invalid("sourceResource.node_name is empty: of which node?")
    if kind == rules.EVENTBUS:
        wanted = f"{key[0]}/{rules.text_of(rule, 'sourceResource', 'topic').strip('/')}"
        if wanted.endswith("/") or not rules.is_topic_filter(wanted):
            raise Invalid("sourceResource.topic is no filter of topics")
    else:
        url = rules.text_of(rule, "sourceResource", "target_url")
        if not url or len(url) > rules.MAX_TEXT - len(rules.SERVICES):
            raise Invalid("sourceResource.target_url is empty, or too long")
        wanted = rules.SERVICES + url
    where = rules.rest_target(rules.text_of(rule, "targetResource", "resource"))
    secret = str(((target.get("spec") or {}).get("properties") or {}).get(SECRET) or "")
    uid = str(meta.metadata(rule).get("uid") or "")
    return MessageRoute(key, uid, NodeName(node), wanted, where, secret)


def _callable(rule: Object, target: str) -> None:
    """Raises Invalid for a rule from rest that no call can have an effect by."""
    if target not in (rules.EVENTBUS, rules.SERVICEBUS):
        raise Invalid(f"a rule from rest goes to eventbus or servicebus, and not to {target[:64]}")
    if not rules.text_of(rule, "sourceResource", "path").strip("/"):
        raise Invalid("sourceResource.path is empty: which calls are for the rule?")
    if target == rules.EVENTBUS:
        topic = rules.text_of(rule, "targetResource", "topic").strip("/")
        if not topic:
            raise Invalid("targetResource.topic is empty: a rule to eventbus needs one")
        if topic.startswith("$") or {"+", "#"} & set(topic):
            raise Invalid(
                f"targetResource.topic {topic[:64]!r} is no topic for rules: it begins with $, or is a filter"
            )


def topics(made: Iterable[MessageRoute]) -> dict[NodeName, list[str]]:
    """What each node has to send up for them."""
    found: dict[NodeName, list[str]] = {}
    for route in made:
        found.setdefault(route.node, []).append(route.wanted)
    return found
