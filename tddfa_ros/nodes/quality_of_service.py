"""Quality of service: the standard overrides by parameter, and who cannot be served with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.duration import Infinite
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import (
    HistoryPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.topic_endpoint_info import TopicEndpointInfo

from tddfa_ros.core.errors import ConfigError
from tddfa_ros.core.image_message import FACES_TYPE

PREFIX = "qos_overrides."
LOG_INTERVAL_S = 30.0
UNKNOWN_NODE = "_NODE_NAME_UNKNOWN_"
"""What the middleware says of a node whose name has not arrived yet."""
OVERRIDABLE = QoSOverridingOptions.with_default_policies()
"""History, depth and reliability, as parameters ``qos_overrides.TOPIC.publisher.POLICY``."""

_MOST_KEPT = 2**31 - 1
_ENUMS = {"history": HistoryPolicy, "reliability": ReliabilityPolicy}


def refuse_changes_of_overrides(node: Node) -> None:
    """Have the node refuse to change its overrides, which are read when an endpoint is made."""

    def refuse(parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name.startswith(PREFIX) and node.has_parameter(parameter.name):
                return SetParametersResult(
                    successful=False,
                    reason=f"{parameter.name} is read at start; give it on the command line or in "
                    "a parameter file",
                )
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(refuse)


@contextlib.contextmanager
def wrong_overrides(endpoint: str) -> Iterator[None]:
    """Turn what rclpy raises where an endpoint cannot be made with its overrides into one error.

    Parameters
    ----------
    endpoint : what is being made, such as ``publisher of faces``

    Raises
    ------
    ConfigError
        An override is none, or the middleware refuses the endpoint.
    """
    try:
        yield
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"{endpoint}: {error}") from error
    except ParameterException as error:
        raise ConfigError(str(error)) from error


class SubscriptionQos:
    """The quality of service of a subscription whose default depends on other settings.

    rclpy would keep the first default as the override of all later ones, so these parameters are
    declared here and go with :meth:`close`.

    Parameters
    ----------
    node : on which the overrides are declared at once
    topic : full name
    default : without overrides

    Attributes
    ----------
    profile : with the overrides

    Raises
    ------
    ConfigError
        An override is none.
    """

    def __init__(self, node: Node, topic: str, default: QoSProfile) -> None:
        self._node = node
        self._names: list[str] = []
        values: dict[str, Any] = {}
        for policy in ("history", "depth", "reliability"):
            value = getattr(default, policy)
            name = f"{PREFIX}{topic}.subscription.{policy}"
            plain = value.name.lower() if policy in _ENUMS else value
            description = ParameterDescriptor(
                description=f"Overrides {policy} of the subscription of {topic}."
            )
            try:
                given = node.declare_parameter(name, plain, description).value
                self._names.append(name)
                values[policy] = _policy(name, policy, given)
            except (ParameterException, ConfigError) as error:
                self.close()
                raise ConfigError(str(error)) from error
        self.profile = QoSProfile(durability=default.durability, **values)

    def close(self) -> None:
        """Undeclare the overrides."""
        for name in self._names:
            self._node.undeclare_parameter(name)
        self._names.clear()


def _policy(name: str, policy: str, given: Any) -> Any:
    if policy not in _ENUMS:
        if not 1 <= given <= _MOST_KEPT:
            raise ConfigError(f"{name} is {given}; expected 1 to {_MOST_KEPT}")
        return given
    known = {p.name.lower(): p for p in _ENUMS[policy] if p.name.lower() != "unknown"}
    if given not in known:
        raise ConfigError(f"{name} is {given!r}; expected one of {', '.join(sorted(known))}")
    return known[given]


def own_copy(profile: QoSProfile) -> QoSProfile:
    """Copy a profile: overrides change the one that they are given."""
    return QoSProfile(
        history=profile.history,
        depth=profile.depth,
        reliability=profile.reliability,
        durability=profile.durability,
        deadline=profile.deadline,
        liveliness_lease_duration=profile.liveliness_lease_duration,
    )


class OutputMismatches:
    """Subscribers that ask more of our publishers than these offer.

    Asked for now and then, not told by the middleware's events: rclpy's executor pays for the event
    of every publisher with each image (a millisecond for all of them), and the events come before
    the names of who is meant.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._topics: dict[str, QoSProfile] = {}
        self._logged: set[str] = set()

    def watch(self, topic: str, offered: QoSProfile) -> PublisherEventCallbacks:
        """Watch a publisher.

        Parameters
        ----------
        topic : full name
        offered : of the publisher; overrides that come later are seen, too

        Returns
        -------
        What the publisher is to be made with.
        """
        self._topics[topic] = offered
        return PublisherEventCallbacks(use_default_callbacks=False)

    def present(self) -> list[str]:
        """Describe each such subscriber that there is now."""
        lines = []
        for topic, offered in self._topics.items():
            lines += [
                f"{node_name(subscriber)} gets nothing of {topic}: {reason}"
                for subscriber in self._node.get_subscriptions_info_by_topic(topic)
                if (reason := mismatch(offered, subscriber.qos_profile))
                and subscriber.node_name != UNKNOWN_NODE
            ]
        for line in sorted(set(lines) - self._logged):
            self._node.get_logger().warning(line)
        self._logged = set(lines)
        return lines


def mismatch(offered: QoSProfile, asked: QoSProfile) -> str:
    """Say why a publisher's offer does not serve a subscription; empty if it does."""
    # What a profile leaves open is 0 in it, and has no limit once it is discovered.
    offered = own_copy(offered)
    for name in ("deadline", "liveliness_lease_duration"):
        if getattr(offered, name).nanoseconds == 0:
            setattr(offered, name, Infinite)
    compatibility, reason = qos_check_compatible(offered, asked)
    if compatibility != QoSCompatibility.ERROR:
        return ""
    # "ERROR: Best effort publisher and reliable subscription;"
    return reason.replace("ERROR: ", "").strip().rstrip(";").lower()


def node_name(endpoint: TopicEndpointInfo) -> str:
    """Full name of the node that has an endpoint."""
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"


def served_nodes(node: Node, topic: str, message_type: str, offered: QoSProfile) -> list[str]:
    """Full names of the nodes whose subscriptions such a publisher serves, one a subscription.

    Parameters
    ----------
    node : which has heard of them
    topic : full name
    message_type : as in ``sensor_msgs/msg/Image``
    offered : of the publisher
    """
    return [
        node_name(subscription)
        for subscription in node.get_subscriptions_info_by_topic(topic)
        if subscription.topic_type == message_type
        and not mismatch(offered, subscription.qos_profile)
    ]


def missing_images(
    node: Node,
    topic: str,
    message_type: str,
    asked: QoSProfile,
    seconds: float,
    *,
    remedy: str,
    remapped: Sequence[tuple[str, str]],
) -> str:
    """Say for how long no image came, who should send them, and what is in the way.

    Parameters
    ----------
    node : that has the subscription
    topic : full name
    message_type : like ``sensor_msgs/msg/Image``
    asked : of the subscription
    seconds : since the last image, or since the subscription began
    remedy : how to have the subscription take what is published best effort
    remapped : names that choose the topic by being remapped, each with what is added to the topic
        that it is remapped to; the first that leads to another topic is advised
    """
    text = f"no image for {seconds:.0f} s on {topic}"
    publishers = node.get_publishers_info_by_topic(topic)
    if publishers:
        described = (_publisher(found, message_type, asked, remedy) for found in publishers)
        return f"{text}, publishers: {'; '.join(described)}"
    text += ", publishers: none"
    topics = node.get_topic_names_and_types()
    # Pictures of faces are no camera's: neither our own, nor those of a second face node.
    face_nodes = {f"{node.get_namespace().rstrip('/')}/{node.get_name()}"}
    for name, types in topics:
        if FACES_TYPE in types:
            face_nodes |= _publishers(node, name)
    others = sorted(
        name
        for name, types in topics
        if message_type in types and _publishers(node, name) - face_nodes
    )
    for name, added in remapped:
        targets = [other.removesuffix(added) for other in others if other.endswith(added)]
        if targets:
            listed = ", ".join(targets[:5])
            return f"{text}; topics of that type: {listed} (remap {name} to one of them)"
    return text


def _publisher(found: TopicEndpointInfo, message_type: str, asked: QoSProfile, remedy: str) -> str:
    offered = found.qos_profile
    text = f"{node_name(found)} ({_word(offered.reliability)}, {_word(offered.durability)}"
    if found.topic_type != message_type:
        return f"{text}) sends {found.topic_type}, not {message_type}: set image_transport"
    if reason := mismatch(offered, asked):
        return f"{text}) does not fit: {reason}: {remedy}"
    return f"{text})"


def _word(policy: Any) -> str:
    return policy.name.lower()


def _publishers(node: Node, topic: str) -> set[str]:
    return {node_name(found) for found in node.get_publishers_info_by_topic(topic)}
