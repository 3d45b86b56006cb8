"""NetSetting fields in nets of random layouts: whatever the layout, only the fields change."""

import pytest

from minicaffe.errors import SpecError
from minicaffe.spec.edit import set_layer_fields
from tests.random_nets import SEEDS, RandomNet, comments_of, layers_of, with_changes

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")


@SEEDS
def test_any_layout_takes_any_change(seeds):
    for net in map(RandomNet, seeds):
        changes = net.changes(net.value)
        new = set_layer_fields(net.text, changes)
        assert layers_of(new) == with_changes(layers_of(net.text), changes)
        assert set_layer_fields(new, changes) == new
        assert set_layer_fields(net.text, {name: {} for name in net.names}) == net.text


@SEEDS
def test_in_any_layout_values_change_and_comments_stay(seeds):
    for net in map(RandomNet, seeds):
        new = set_layer_fields(net.text, net.changes(net.some_value))
        before, after = comments_of(net.text), comments_of(new)
        assert [c for c in before if "# in" not in c] == [c for c in after if "# in" not in c]
        assert set(after) <= set(before)


@SEEDS
def test_in_any_layout_what_is_added_can_be_removed_again(seeds):
    for net in map(RandomNet, seeds):
        added, removed = {}, {}
        for layer in layers_of(net.text):
            paths = [
                "low_rank_param",
                "other",
                *(f"{x}.new" for x in ("conv_param", "pool_param") if x in layer),
            ]
            added[layer["name"]] = {path: net.some_value() for path in paths}
            removed[layer["name"]] = dict.fromkeys(paths)
        new = set_layer_fields(net.text, added)
        rest = iter(new)
        assert all(character in rest for character in net.text)  # the old text, with pieces between
        assert set_layer_fields(new, removed) == net.text


@SEEDS
def test_a_damaged_text_is_refused_or_changed_but_never_a_traceback(seeds):
    for net in map(RandomNet, seeds):
        place, changes = net.random.randrange(len(net.text)), net.changes(net.value)
        damage = net.random.choice("{}[]:,-&*!|>'\"#%@`? \n\tx")
        text = net.text[:place] + damage + net.text[place + net.random.choice([0, 1]) :]
        try:
            new = set_layer_fields(text, changes, "net.yaml")
        except SpecError as error:
            assert str(error).startswith("net.yaml")
        else:
            assert set_layer_fields(new, changes) == new
