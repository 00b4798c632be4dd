"""Types to JSON Schemas, for the description of the API.

msgspec's own generator can neither name two types `Request`, nor describe JSON that is passed on as it came: so ours
names every type by its dialect and itself, and lets such JSON be anything. Pure; it knows no path.
"""

from __future__ import annotations

from typing import Any

from msgspec import NODEFAULT, inspect

Schema = dict[str, Any]
REF = "#/components/schemas/"


class Schemas:
    """Collects the schemas of types, and of all types within them. `found` is what belongs into `components`."""

    def __init__(self) -> None:
        self.found: dict[str, Schema] = {}

    def add(self, kind: Any, prefix: str) -> Schema:
        """A reference to a type's schema, which is there from now on. `prefix` keeps the names of dialects apart."""
        return self._of(inspect.type_info(kind), prefix)

    def _of(self, info: inspect.Type, prefix: str) -> Schema:
        match info:
            case inspect.Metadata():
                return {**self._of(info.type, prefix), **(info.extra_json_schema or {})}
            case inspect.StructType():
                return self._struct(info, prefix)
            case inspect.UnionType():
                return self._union(info, prefix)
            case inspect.CollectionType():
                return {"type": "array", "items": self._of(info.item_type, prefix), **_bounds(info, "Items")}
            case inspect.DictType():
                values = self._of(info.value_type, prefix)
                return {"type": "object", "additionalProperties": values, **_bounds(info, "Properties")}
            case inspect.LiteralType():
                return {"enum": list(info.values)}
            case inspect.EnumType():
                return {"enum": [member.value for member in info.cls]}
        for plain, name in _PLAIN.items():
            if isinstance(info, plain):
                return {"type": name, **_bounds(info, "Length")}
        return {}  # anything: Any, and JSON that is passed on as it came

    def _struct(self, info: inspect.StructType, prefix: str) -> Schema:
        name = prefix + info.cls.__name__.lstrip("_")
        if name not in self.found:
            self.found[name] = {}  # a type may hold itself
            properties = {field.encode_name: self._field(field, prefix) for field in info.fields}
            required = [field.encode_name for field in info.fields if field.required]
            if info.tag is not None and info.tag_field is not None:
                properties = {info.tag_field: {"const": info.tag}, **properties}
                required.insert(0, info.tag_field)
            self.found[name] |= {"type": "object", "properties": properties}
            if required:
                self.found[name]["required"] = required
        return {"$ref": REF + name}

    def _field(self, field: inspect.Field, prefix: str) -> Schema:
        schema = self._of(field.type, prefix)
        if field.default is NODEFAULT or not isinstance(field.default, str | int | float):
            return schema
        return {**schema, "default": field.default}

    def _union(self, info: inspect.UnionType, prefix: str) -> Schema:
        members = [member for member in info.types if not isinstance(member, inspect.NoneType)]
        schemas = [self._of(member, prefix) for member in members]
        null = len(members) < len(info.types)
        if len(schemas) == 1 and null and "type" in schemas[0]:
            return {**schemas[0], "type": [schemas[0]["type"], "null"]}
        if null:
            schemas.append({"type": "null"})
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _bounds(info: Any, length: str) -> Schema:
    """What a type says of its values, in the words of JSON Schema; `length` is what is counted of them."""
    words = {"ge": "minimum", "le": "maximum", "pattern": "pattern"}
    words |= {"min_length": f"min{length}", "max_length": f"max{length}"}
    return {word: value for name, word in words.items() if (value := getattr(info, name, None)) is not None}


_PLAIN: dict[type[inspect.Type], str] = {
    inspect.BoolType: "boolean",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.StrType: "string",
    inspect.NoneType: "null",
}
