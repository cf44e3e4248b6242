"""Model cards."""

from keras_resnet.experiment.card import model_card
from tests.evaluation.test_classes import colors

METRICS = {
    "split": "test",
    "test_accuracy": 0.5,
    "test_images": 4,
    "test_loss": 1.0,
    "train_accuracy": 0.5,
    "train_seconds": 1.0,
    "steps": 2,
    "seed": 0,
    "parameters": 3,
    "multiply_adds": None,
    "versions": {},
    "command": "python train.py --data-dir '```<b>\n# x'",
}


def test_text_of_others_is_text(tmp_path):
    dataset = colors(["<script>", "[a](http://b)", "c\x1b[2J\n\n# d | *e*"])
    dataset.name = "![p](q) <b>"
    settings = {"data_dir": "a`b</p>\n# x", "seed": 0, "export": True}
    card = model_card("__n__", "A network", dataset, settings, METRICS)
    assert r"Classes: &lt;script&gt;, \[a\](http://b), c\\x1b\[2J\\n\\n# d \| \*e\*." in card
    assert card.startswith(r"# \_\_n\_\_ trained on !\[p\](q) &lt;b&gt;" + "\n")
    assert r"Settings: data_dir a\`b&lt;/p&gt;\\n# x, seed 0, export True." in card
    assert "\n````bash\npython train.py --data-dir '```<b>\\n# x'\n````\n" in card
