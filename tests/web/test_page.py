"""The manager's page in a real browser: what a person sees, and does."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from helpers.domain.jobs.observation import Phase
from helpers.domain.jobs.states import JobStatus
from tests.manager.scene import ALICE, BOB
from tests.web.conftest import BOUND_MS, Watched
from tests.web.scene import WebScene

expect.set_options(timeout=BOUND_MS)


def row(page: Page, name: str) -> Any:
    return page.locator("#rows tr").filter(has=page.get_by_role("button", name=name, exact=True))


def names(page: Page) -> list[str]:
    return page.locator("#rows .name").all_text_contents()


def test_the_token_is_kept_in_the_tab_and_never_in_the_address(watched: Watched, web: WebScene) -> None:
    web.present()
    asked: list[str] = []
    watched.page.on("request", lambda request: asked.append(request.url))
    page = watched.enter()
    expect(row(page, "captions")).to_be_visible()
    page.get_by_role("radio", name="All").check()
    expect(page).to_have_url(re.compile("state=all"))
    assert not [url for url in [*asked, page.url] if ALICE in url]
    assert page.evaluate("[localStorage.length, document.cookie, Object.values(sessionStorage)]") == [0, "", [ALICE]]

    page.reload()  # the tab still knows it, and the filter
    expect(row(page, "captions")).to_be_visible()
    expect(page.get_by_role("radio", name="All")).to_be_checked()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_focused()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_token_of_nobody_is_refused_with_a_word(watched: Watched) -> None:
    page = watched.enter("token-of-a-stranger")
    expect(page.get_by_role("alert")).to_have_text("The manager does not know this token.")
    expect(page.get_by_label("Token")).to_be_focused()
    assert page.evaluate("sessionStorage.length") == 0
    watched.expects = "401"


def test_it_asks_nobody_but_its_manager(watched: Watched, web: WebScene) -> None:
    web.present()
    asked: list[str] = []
    watched.page.on("request", lambda request: asked.append(request.url))
    expect(row(watched.enter(), "captions")).to_be_visible()
    assert {url for url in asked if not url.startswith(web.url) and not url.startswith("data:")} == set()
    for path in ("", "static/page.css", "static/page.js"):
        answer = httpx.get(web.url + path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        again = httpx.get(web.url + path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_jobs_appear_and_change_without_a_reload(watched: Watched, web: WebScene) -> None:
    page = watched.enter()
    expect(page.get_by_text("No such jobs.")).to_be_visible()
    job_id = web.submit_now("arrives", "vision", {"gpu_type": "A100", "gpu_memory_gb": 80})
    expect(row(page, "arrives")).to_contain_text("pending")
    web.run(job_id, "a100-1")
    expect(row(page, "arrives")).to_contain_text("running")
    expect(page.locator("#n-running")).to_have_text("1")
    expect(page.locator("#n-cards")).to_have_text("1 of 10")
    expect(page.get_by_role("img", name=f"Card 0: {job_id} 100 %")).to_be_visible()
    web.see(job_id, Phase.SUCCEEDED, "a100-1")
    web.turn()
    expect(page.get_by_text("No such jobs.")).to_be_visible()
    page.get_by_role("radio", name="Over").check()
    expect(row(page, "arrives")).to_contain_text("completed")


def test_filters_narrow_the_list(watched: Watched, web: WebScene) -> None:
    web.past()
    web.present()
    page = watched.enter()
    expect(page.locator("#jobs-count")).to_have_text("7 jobs")
    page.get_by_role("combobox", name="Project").select_option("vision")
    expect(page.locator("#jobs-count")).to_have_text("2 jobs")
    assert names(page) == ["captions", "finetune_llama_7b"]
    page.get_by_role("combobox", name="Project").select_option("text")
    page.get_by_label("Priority").select_option("high")
    expect(page.locator("#jobs-count")).to_have_text("1 job")
    page.get_by_label("Priority").select_option("")
    page.get_by_role("radio", name="Over").check()
    expect(page.locator("#jobs-count")).to_have_text("10 jobs")
    page.get_by_label("Search").fill("train-6")
    expect(page.locator("#jobs-count")).to_have_text("1 job")
    expect(row(page, "train-6")).to_contain_text("failed")
    page.get_by_label("Search").fill("nothing like it")
    expect(page.locator("#no-jobs")).to_contain_text("None of the 10 jobs shown matches")


def test_a_long_list_is_fetched_page_by_page(watched: Watched, web: WebScene) -> None:
    for number in range(130):
        web.bench.submit(job_name=f"many-{number}")
    web.bench.board.look()
    page = watched.enter()
    expect(page.locator("#jobs-count")).to_have_text("100 newest jobs")
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("#jobs-count")).to_have_text("130 jobs")
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()


def test_all_of_it_works_by_keyboard(watched: Watched, web: WebScene) -> None:
    found = web.present()
    page = watched.enter()
    press = page.keyboard.press
    expect(row(page, "sweep-3")).to_be_visible()
    expect(page.get_by_role("region", name="Jobs")).to_be_focused()
    page.reload()
    expect(row(page, "sweep-3")).to_be_visible()
    press("Tab")
    expect(page.get_by_role("link", name="Skip to the jobs")).to_be_focused()
    press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type("sweep")
    expect(page.locator("#jobs-count")).to_have_text("3 jobs")
    press("Tab")
    expect(page.get_by_role("button", name="sweep-3")).to_be_focused()
    press("ArrowDown")
    expect(page.get_by_role("button", name="sweep-2")).to_be_focused()
    press("Enter")
    expect(page.get_by_role("dialog", name="sweep-2")).to_be_visible()
    for _ in range(12):
        if page.evaluate("document.activeElement.textContent") == "Cancel the job":
            break
        press("Tab")
    press("Enter")
    assert web.bench.job(found["sweep-2"]).status is JobStatus.QUEUED  # it asks once more
    expect(page.get_by_role("button", name="Cancel it for good")).to_be_focused()
    press("Enter")
    expect(page.get_by_role("dialog").locator(".state")).to_have_text("cancelled")
    assert web.bench.job(found["sweep-2"]).status is JobStatus.CANCELLED
    press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_the_focus_comes_back_to_the_job_that_was_open(watched: Watched, web: WebScene) -> None:
    found = web.present()
    page = watched.enter()
    page.get_by_role("button", name="captions").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="captions")).to_be_visible()
    web.see(found["ocr"], Phase.SUCCEEDED, "t4-1")
    web.turn()
    expect(row(page, "ocr")).to_have_count(0)  # the list was drawn anew behind it
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="captions")).to_be_focused()


def test_a_job_shows_its_history_and_output(watched: Watched, web: WebScene) -> None:
    web.present()
    page = watched.enter()
    page.get_by_role("button", name="captions").click()
    job = page.get_by_role("dialog", name="captions")
    expect(job).to_contain_text("6,000 MiB of T4")
    expect(job.locator(".history")).to_contain_text("provisioning")
    job.get_by_role("button", name="Show output").click()
    expect(job.get_by_label("Output")).to_have_text("worker 0: the last 500 lines\n")


def test_what_users_wrote_is_text_and_never_markup(watched: Watched, web: WebScene) -> None:
    evil = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    container = {"image": "registry.example.com/train:1", "command": ["sh", "-c", evil]}
    job_id = web.bench.submit(job_name="evil", container=container)
    web.run(job_id, "a100-1")
    web.see(job_id, Phase.RUNNING, "a100-1", reason=evil)
    page = watched.enter()
    page.get_by_role("button", name="evil").click()
    expect(page.get_by_role("dialog").get_by_text(evil)).to_be_visible()
    assert page.title() == "GPU jobs"
    assert page.locator("dialog img, dialog script").count() == 0


def test_other_peoples_jobs_fill_a_card_and_have_no_name(watched: Watched, web: WebScene) -> None:
    found = web.present()
    page = watched.enter()
    expect(page.get_by_role("img", name="Card 6: another project's job 100 %")).to_be_visible()
    expect(page.get_by_role("img", name="Card 7: free")).to_be_visible()
    expect(
        page.get_by_role("img", name=re.compile(f"Card 0: {found['captions']} 37 %, {found['ocr']} 37 %"))
    ).to_be_visible()
    assert found["other"] not in page.content()
    assert "ml-research" not in page.content()


def test_who_sees_one_project_sees_its_money_alone(watched: Watched, web: WebScene) -> None:
    web.past()
    page = watched.enter(BOB)
    expect(page.locator("#projects li")).to_have_count(1)
    expect(page.locator("#cost svg")).to_have_attribute("aria-label", re.compile(r"\$[\d,.]+ in 14 days"))
    assert page.locator("#cost .legend").text_content() == "text"


def test_a_manager_that_does_not_answer_is_said_and_tried_again(watched: Watched, web: WebScene) -> None:
    web.present()
    page = watched.enter()
    expect(page.locator("#live")).to_have_text("Live")
    web.callers.broken = "the API server does not answer"
    web.bench.clock.advance(60)  # callers that were seen are forgotten
    expect(page.locator("#live")).to_contain_text("does not answer")
    expect(row(page, "captions")).to_be_visible()  # what was seen last stays
    web.callers.broken = ""
    expect(page.locator("#live")).to_have_text("Live")
    watched.expects = "503"


@pytest.mark.parametrize("state", ["door", "board", "job"])
def test_at_360_pixels_nothing_is_wider_than_the_screen(watched: Watched, web: WebScene, state: str) -> None:
    web.past()
    web.present()
    web.submit_now("a" * 63, "vision", {"gpu_type": "A100", "gpu_memory_gb": 80})
    watched.page.set_viewport_size({"width": 360, "height": 740})
    page = watched.page
    page.goto(web.url)
    if state != "door":
        watched.enter()
        expect(row(page, "captions")).to_be_visible()
        expect(page.locator("#cost rect").first).to_be_visible()
    if state == "job":
        page.get_by_role("button", name="captions").click()
        expect(page.get_by_role("dialog").locator(".history")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    wide = page.evaluate(
        """[...document.body.querySelectorAll("*")].filter((one) => one.checkVisibility()
            && getComputedStyle(one).clipPath === "none" && one.getBoundingClientRect().right > 360.5)
            .map((one) => one.outerHTML.slice(0, 80))"""
    )
    assert wide == []
