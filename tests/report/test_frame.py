"""The page of a report: it opens, offline, and is led by its address and by keys."""

import pytest

pytestmark = [
    pytest.mark.browser,
    pytest.mark.cpu_only("a page looks the same wherever its numbers come from"),
]


def test_an_address_leads_to_a_state_and_keys_lead_on(lenet_page):
    lenet_page.at("view=layer&layer=conv1")
    assert lenet_page.tab.locator("main h2").inner_text() == "conv1 · Convolution"
    lenet_page.press("ArrowDown")
    assert lenet_page.tab.locator("main h2").inner_text() == "pool1 · Pooling"
    lenet_page.press("1")
    assert lenet_page.js("location.hash").startswith("#view=net")


def test_each_tab_has_a_view_or_says_what_fills_it(lenet_page):
    for key in lenet_page.js("R.order"):
        lenet_page.at(f"view={key}")
        assert lenet_page.tab.locator("main h2").count() == 1, key
        assert lenet_page.tab.locator("main .error").count() == 0, key
