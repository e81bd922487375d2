"""The messages of the kubelet's gRPC interfaces, described here and built when the process starts.

Field numbers and names are the interface's facts (Kubernetes' module k8s.io/kubelet: pluginregistration
v1 and dra v1); a test holds them against the published files. A pool of its own: another library in
the process may bring the same messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

DRA_PACKAGE = "k8s.io.kubelet.pkg.apis.dra.v1"
REGISTRATION_PACKAGE = "pluginregistration"
DRA_SERVICE = f"{DRA_PACKAGE}.DRAPlugin"
REGISTRATION_SERVICE = f"{REGISTRATION_PACKAGE}.Registration"
DRA_PLUGIN_TYPE = "DRAPlugin"
# How a plugin says at registration which service it has.
DRA_SUPPORTED = "v1.DRAPlugin"

Fields = tuple[tuple[str, int, str], ...]

# `{message: ((field, number, type), ...)}`; a type is string, bool or a message of the same package, with
# `repeated`, `optional` or (string keys) `map` before it.
DRA_MESSAGES: dict[str, Fields] = {
    "Claim": (("namespace", 1, "string"), ("uid", 2, "string"), ("name", 3, "string")),
    "Device": (
        ("request_names", 1, "repeated string"),
        ("pool_name", 2, "string"),
        ("device_name", 3, "string"),
        ("cdi_device_ids", 4, "repeated string"),
        ("share_id", 5, "optional string"),
    ),
    "NodePrepareResourceResponse": (("devices", 1, "repeated Device"), ("error", 2, "string")),
    "NodePrepareResourcesRequest": (("claims", 1, "repeated Claim"),),
    "NodePrepareResourcesResponse": (("claims", 1, "map NodePrepareResourceResponse"),),
    "NodeUnprepareResourceResponse": (("error", 1, "string"),),
    "NodeUnprepareResourcesRequest": (("claims", 1, "repeated Claim"),),
    "NodeUnprepareResourcesResponse": (("claims", 1, "map NodeUnprepareResourceResponse"),),
}
REGISTRATION_MESSAGES: dict[str, Fields] = {
    "InfoRequest": (),
    "PluginInfo": (
        ("type", 1, "string"),
        ("name", 2, "string"),
        ("endpoint", 3, "string"),
        ("supported_versions", 4, "repeated string"),
    ),
    "RegistrationStatus": (("plugin_registered", 1, "bool"), ("error", 2, "string")),
    "RegistrationStatusResponse": (),
}

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"string": _Field.TYPE_STRING, "bool": _Field.TYPE_BOOL}

Make = Callable[..., Any]


def _file(name: str, package: str, messages: dict[str, Fields]) -> Any:
    made = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")
    for message, fields in messages.items():
        described = made.message_type.add(name=message)
        for field, number, kind in fields:
            _add_field(described, package, field, number, kind)
    return made


def _add_field(message: Any, package: str, name: str, number: int, kind: str) -> None:
    label, _, of = kind.rpartition(" ")
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if label == "map":
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _add_field(entry, package, "key", 1, "string")
        _add_field(entry, package, "value", 2, of)
        of = f"{message.name}.{entry.name}"
    if label in ("repeated", "map"):
        field.label = _Field.LABEL_REPEATED
    if label == "optional":
        # How protobuf tells an absent text from an empty one: a oneof with one member.
        message.oneof_decl.add(name=f"_{name}")
        field.oneof_index, field.proto3_optional = len(message.oneof_decl) - 1, True
    if of in _SCALARS:
        field.type = _SCALARS[of]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{package}.{of}"


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file("gpumem/dra.proto", DRA_PACKAGE, DRA_MESSAGES))
_POOL.Add(_file("gpumem/registration.proto", REGISTRATION_PACKAGE, REGISTRATION_MESSAGES))


def message_class(package: str, name: str) -> Make:
    """The class of one message; KeyError where there is none of that name."""
    made: Make = message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{package}.{name}"))
    return made


PluginInfo = message_class(REGISTRATION_PACKAGE, "PluginInfo")
RegistrationStatusResponse = message_class(REGISTRATION_PACKAGE, "RegistrationStatusResponse")
PrepareResponse = message_class(DRA_PACKAGE, "NodePrepareResourcesResponse")
UnprepareResponse = message_class(DRA_PACKAGE, "NodeUnprepareResourcesResponse")
