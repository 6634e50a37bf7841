"""The concept questions on their page: by mouse and by keys, for one reader and for a class, without a script and on paper."""

from __future__ import annotations

import pytest
from site_checks import SETTLED, THEMES, WIDTHS, accessibility, context_of, listen, overflow, turn_to

PAGE = "book/questions.html"
QUESTION = "#q-quantisers-floor"


@pytest.mark.parametrize("device", WIDTHS)
def test_an_answer_is_checked_by_mouse_and_by_keys_and_the_feedback_is_read(browser, site, device):
    with context_of(browser, device, site) as context:
        tab = context.new_page()
        problems = listen(tab, site)
        tab.goto(f"{site}/{PAGE}", wait_until="load")
        tab.evaluate(SETTLED)
        question = tab.locator(QUESTION)
        assert question.get_by_role("group").count() == 1  # the fieldset, named by its legend
        said = question.get_by_role("status")
        check = question.get_by_role("button", name="Check")
        check.click()
        assert said.inner_text() == "Choose an answer first."
        question.get_by_text("twice as much").click()
        assert said.inner_text() == "", "a choice is not judged before it is made"
        check.click()
        assert (
            said.inner_text().startswith("B: No. The largest error is twice as large") and "most often" in said.inner_text()
        )
        assert said.locator("mjx-container").count() == 2
        question.get_by_role("radio").nth(1).focus()
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("ArrowDown")
        assert said.inner_text() == "" and question.locator(".cq-wrong").count() == 0
        tab.keyboard.press("Enter")
        assert said.inner_text().startswith("D: Right. ") and question.locator(".cq-right").count() == 1
        for theme in THEMES:
            problems += turn_to(tab, theme)
            problems += overflow(tab) + accessibility(tab)
        assert problems == []


@pytest.mark.parametrize("device", WIDTHS)
def test_a_question_is_shown_to_a_class_with_shares_and_all_answers(browser, site, device):
    with context_of(browser, device, site) as context:
        tab = context.new_page()
        problems = listen(tab, site)
        tab.goto(f"{site}/{PAGE}", wait_until="load")
        tab.evaluate(SETTLED)
        opener = tab.locator(QUESTION).get_by_role("button", name="For a class")
        opener.click()
        dialog = tab.get_by_role("dialog", name="Question 1.3, for a class")
        for letter, hands in zip("ABCD", (4, 8, 0, 4)):
            dialog.get_by_label(f"Hands for {letter}, before the discussion").fill(str(hands))
        assert [bars.strip() for bars in dialog.locator(".cq-bars").all_inner_texts()] == ["25 %", "50 %", "0 %", "25 %"]
        assert dialog.locator("input:checked").count() == 0 and dialog.get_by_role("status").inner_text() == ""
        dialog.get_by_role("button", name="Show the answers").click()
        verdicts = [each[:5] for each in dialog.get_by_role("status").inner_text().split("\n") if each[1:3] == ": "]
        assert verdicts == ["A: No", "B: No", "C: No", "D: Ri"]
        for theme in THEMES:
            problems += turn_to(tab, theme)
            problems += overflow(tab) + accessibility(tab)
        tab.keyboard.press("Escape")
        dialog.wait_for(state="detached")
        assert opener.evaluate("each => each === document.activeElement")
        assert tab.locator(f"article > section {QUESTION}, article {QUESTION}").count() == 1
        assert problems == []


def test_without_a_script_and_on_paper_all_questions_and_answers_can_be_read(browser, site):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(f"{site}/{PAGE}", wait_until="load")
    assert tab.locator(".cq").count() == 50 and tab.locator(".cq button").count() == 0
    lists = tab.locator("details.cq-answers")
    assert lists.count() == 5 and not lists.first.locator("li").first.is_visible()
    lists.first.locator("summary").click()
    assert lists.first.locator("li").first.is_visible()
    context.close()
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(f"{site}/{PAGE}", wait_until="load")
    tab.emulate_media(media="print")
    tab.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("details.cq-answers[open]").count() == 5 and not tab.locator(".cq-buttons").first.is_visible()
    context.close()
