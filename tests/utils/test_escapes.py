"""Text of others in terminals and Markdown."""

import html
import re

import pytest

from keras_resnet.utils.escapes import code_block, markdown, visible

# Names, and what a terminal shows of them.
NAMES = {
    "golden retriever": "golden retriever",
    "n01_Größe-2 (男)": "n01_Größe-2 (男)",
    "a\x1b[31mred\x07": r"a\x1b[31mred\x07",
    "two\nlines\r\x85\u2028": r"two\nlines\r\x85\u2028",
    "gpj.\u202eexe": r"gpj.\u202eexe",
    "zero\u200bwidth\ufeff": r"zero\u200bwidth\ufeff",
    "n\udcff": r"n\udcff",
    "می\u200cخواهم": "می\u200cخواهم",
    "<img src=x onerror=alert(1)>": "<img src=x onerror=alert(1)>",
    "[a](http://b) ![c](d)": "[a](http://b) ![c](d)",
    "*a* __b__ ~~c~~ `d` $e$ | f \\* &amp; &#60;": "*a* __b__ ~~c~~ `d` $e$ | f \\* &amp; &#60;",
    "``": "``",
}


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_are_shown_as_what_they_are(name):
    assert visible(name) == NAMES[name]
    parser = pytest.importorskip("markdown_it").MarkdownIt().enable(["table", "strikethrough"])
    table = f"| a | b |\n|---|---|\n| {markdown(name)} | 1 |"
    rendered = parser.render(f"{table}\n\nx {markdown(name)}")
    *_, cell, number, text = re.findall(r"<(?:th|td|p)>(.*?)</(?:th|td|p)>", rendered, re.S)
    assert [html.unescape(part) for part in (cell, number, text)] == [
        *(NAMES[name], "1", f"x {NAMES[name]}")
    ]
    assert {*re.findall(r"</?(\w+)", rendered)} == {*"table thead tbody tr th td p".split()}
    block = parser.render(code_block(f"run {name}", "bash"))
    (code,) = re.findall(r'^<pre><code class="language-bash">(.*?)\n</code></pre>$', block, re.S)
    assert html.unescape(code) == f"run {NAMES[name]}"
