"""Names that Kubernetes accepts, and those that it does not."""

from __future__ import annotations

import pytest

from helpers.domain import names


@pytest.mark.parametrize("text", ["a", "a-b", "0", "a1", "a" * 63])
def test_a_dns_label_is_recognised(text: str) -> None:
    assert names.is_dns_label(text)
    assert names.is_dns_subdomain(text)


@pytest.mark.parametrize("text", ["", "A", "-a", "a-", "a_b", "a b", "ä", "a" * 64, "a\n"])
def test_what_is_no_dns_label_is_refused(text: str) -> None:
    assert not names.is_dns_label(text)
    assert not names.is_dns_subdomain(text)


def test_an_object_name_may_hold_dots_up_to_253_characters() -> None:
    assert names.is_dns_subdomain("node-1.example.com")
    assert not names.is_dns_label("node-1.example.com")
    longest = ".".join(["a" * 62] * 4)
    assert names.is_dns_subdomain(longest)
    assert not names.is_dns_subdomain(f"{longest}.bc")
    assert not names.is_dns_subdomain("a..b")


@pytest.mark.parametrize("text", ["app", "nvidia.com/gpu.present", "A_b.c-d", "example.com/x" + "y" * 62])
def test_a_label_key_is_recognised(text: str) -> None:
    assert names.is_qualified_name(text)


@pytest.mark.parametrize("text", ["", "/x", "a/", "a/b/c", "Example.com/x", "x-", "a b", "example.com/" + "y" * 64])
def test_what_is_no_label_key_is_refused(text: str) -> None:
    assert not names.is_qualified_name(text)


def test_a_label_selector_does_not_depend_on_the_order_of_the_labels() -> None:
    assert names.label_selector({"b": "2", "a": "1"}) == names.label_selector({"a": "1", "b": "2"}) == "a=1,b=2"
