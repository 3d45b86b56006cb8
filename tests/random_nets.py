"""Nets in random layouts, as text: what tests of editing specs try."""

import copy
import random
import re

import pytest
import yaml


def data(text):
    """The layers of a net spec, as plain data."""
    return yaml.safe_load(text)["layer"]


class RandomNet:
    """A net in a random layout, in which every comment is another one.

    Comments in messages in block style begin with "# in", for they go where the message is replaced.
    """

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.comments = 0
        self.names = [f"layer{i}" for i in range(self.random.randint(1, 4))]
        self.lines = self.random.choice([[], ["---"], ["# a net", "", "name: net"]])
        self.lines.append(self.random.choice(["layer:", '"layer":', "layers :"]) + self.comment())
        indent = self.random.choice([0, 2, 3])
        for name in self.names:
            self.add_gap(self.random.choice([0, indent, 9]))
            self.add_layer(name, indent)
        self.add_gap(0)
        end = self.random.choice(["\n", "\r\n"])
        self.text = end.join(self.lines) + self.random.choice(["", end])

    def comment(self, word="", odds=0.4):
        self.comments += 1
        number = f"# {word}{self.comments}ü:\t{{[&*;"
        return self.random.choice(["  ", " ", "    "]) + number if self.random.random() < odds else ""

    def add_gap(self, indent):
        for _ in range(self.random.choice([0, 0, 1, 2])):
            self.lines.append(" " * indent + self.comment(odds=0.6).strip())

    def scalar(self):
        return self.random.choice(
            [
                "1",
                "-2.5",
                "1e-4",
                "true",
                "text",
                "two words",
                "'quoted: # text'",
                '"x, y"',
                "[1, 2]",
                "[]",
                "~",
            ]
        )

    def key(self, name):
        return self.random.choice([name, name, name, f"'{name}'", f'"{name}"'])

    def message(self):
        fields = self.random.sample(["num", "size", "pad", "bias"], self.random.randint(1, 4))
        return [(self.key(field), self.scalar()) for field in fields]

    def fields(self, name):
        """(key, value): a value is text, or (key, text) of each field of a message."""
        others = [
            (self.key(x), self.message()) for x in ("conv_param", "pool_param") if self.random.random() < 0.6
        ]
        others += [
            (self.key(x), self.scalar()) for x in ("top", "bottom", "phase") if self.random.random() < 0.5
        ]
        others += [(self.key("type"), "Convolution"), (self.key("name"), self.key(name))]
        self.random.shuffle(others)
        return others

    def add_layer(self, name, indent):
        if self.random.random() < 0.4:
            self.lines += self.flow(
                self.fields(name), " " * indent + "- ", " " * indent + "   ", self.comment
            )
            return
        dash = "-" + " " * self.random.randint(1, 3)
        start, rest = " " * indent + dash, " " * (indent + len(dash))
        for key, value in self.fields(name):
            self.add_field(start, rest, key, value)
            start = rest
            if self.random.random() < 0.2:
                self.add_gap(len(rest))

    def add_field(self, start, rest, key, value):
        if isinstance(value, str):
            self.lines.append(f"{start}{key}: {value}{self.comment()}")
        elif self.random.random() < 0.5:
            self.lines += self.flow(value, f"{start}{key}: ", rest + "   ", lambda: self.comment("in"))
        else:
            self.lines.append(f"{start}{key}:{self.comment()}")
            inner = rest + " " * self.random.choice([1, 2, 4])
            for name, text in value:
                self.lines.append(f"{inner}{name}: {text}{self.comment('in')}")
                if self.random.random() < 0.2:
                    self.lines.append(self.comment("in").strip())

    def flow(self, fields, start, rest, comment):
        """Lines of a mapping in flow style: on one line, or on several with comments between."""
        parts = []
        for key, value in fields:
            inner = value if isinstance(value, str) else "".join(self.flow(value, "", "", None))
            parts.append(f"{key}: {inner}")
        if comment is None or self.random.random() < 0.5:
            return [start + "{" + ", ".join(parts) + self.random.choice(["}", " }", ", }"])]
        lines = [f"{rest}{part},{comment()}" for part in parts]
        lines[0] = start + "{" + lines[0].lstrip()
        return [*lines, rest + "}" + self.comment()]

    def changes(self, values):
        """Random changes of some layers; ``values`` makes a value for each path."""
        paths = [
            "low_rank_param",
            "conv_param.size",
            "conv_param.new",
            "pool_param",
            "top",
            "other.a.b",
            "type",
        ]
        chosen = {name: self.random.sample(paths, self.random.randint(1, len(paths))) for name in self.names}
        return {name: {path: values(path) for path in chosen[name]} for name in self.names}

    def value(self, path=""):
        """None sometimes: the field goes."""
        return self.random.choice([None, self.some_value()])

    def some_value(self, path=""):
        return self.random.choice([5, 2e-7, "text", "no", [1, "a,b"], {"rank": 3, "scheme": "é"}, {}])


def with_changes(layers, changes):
    """What ``set_layer_fields`` has to do, on plain data."""
    layers = copy.deepcopy(layers)
    for layer in layers:
        for path, value in changes.get(layer["name"], {}).items():
            *parents, name = path.split(".")
            place, makes = layer, value is not None
            for parent in parents:
                if place.get(parent) is None and not makes:
                    place = {}
                    break
                place = place.setdefault(parent, {})
            if makes:
                place[name] = value
            else:
                place.pop(name, None)
    return layers


def layers_of(text):
    return next(value for key, value in yaml.safe_load(text).items() if key.startswith("layer"))


def comments_of(text):
    return re.findall("# (?:in)?[0-9]+ü", text)


SEEDS = pytest.mark.parametrize("seeds", [range(i, i + 30) for i in range(0, 60, 30)], ids=str)
