"""Ovi Check on a real server and in ComfyUI's page: its text is shown in the node, and can be copied."""

from __future__ import annotations

import pytest
from browser import Studio

from tools.dev.server import Server

TEXT = "app.graph.nodes[0].widgets.find(widget => widget.name === 'report_text').value"


@pytest.mark.parametrize("newer", [False, True])
def test_the_report_is_shown_in_the_node(page: Studio, page_server: Server, newer: bool):
    damaged = page_server.base / "models" / "vae" / f"damaged {newer}.safetensors"
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_bytes(b"\xff" * 100)
    page.open(Comfy__VueNodes__Enabled=newer, Comfy__Locale="fr" if newer else "en")
    page.blank()
    page.alone("OviCheck")
    before = "Cliquez sur Exécuter." if newer else "Press Run."
    page.page.wait_for_function(
        "text => [...document.querySelectorAll('textarea, label')].some(each => "
        "(each.placeholder + each.innerText).includes(text))",
        arg=before,
    )
    assert page.prompt() == {"1": {**page.prompt()["1"], "inputs": {"variant": "auto"}}}, "the text is not sent back"
    assert page.run()["end"][0] == "execution_success"
    page.page.wait_for_function(f"{TEXT}.includes('This card')")
    text = page.page.evaluate(TEXT)
    assert f"vae/damaged {newer}.safetensors: which is damaged or no weight file" in text
    assert "mini: complete" in text
    assert str(page_server.base) not in text
    field = page.page.locator("textarea").last
    assert field.input_value() == text
    assert field.get_attribute("readonly") is not None
    assert "This card" not in str(page.graph()), "a saved workflow holds nothing of this machine"
    assert before not in page.page.locator("#vue-app").inner_text()
    assert page.complaints() == []
    damaged.unlink()
