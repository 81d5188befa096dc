"""What a process says holds no secret of its environment."""

import io
import sys

from unisd.execution.masking import MASK, mask_output, masked, secrets_in


def test_secrets_are_known_by_the_names_of_their_variables():
    environment = {
        "HF_TOKEN": "hf_abcdefgh",
        "WANDB_API_KEY": "w" * 40,
        "UNISD_API_KEY": "a key of the run",
        "MY_APIKEY": "another key",
        "AWS_SECRET_ACCESS_KEY": "first line of it\nthe second line",
        "HTTPS_PROXY": "http://user:passphrase@proxy:3128",
        "TOKENIZERS_PARALLELISM": "a word of length",
        "MONKEYS": "a word of length",
        "SHORT_TOKEN": "false",
        "HOME": "/home/somebody",
    }
    found = secrets_in(environment)
    assert set(found) == {
        "hf_abcdefgh",
        "w" * 40,
        "a key of the run",
        "another key",
        "first line of it",
        "the second line",
        "passphrase",
    }
    assert masked("Bearer hf_abcdefgh, again hf_abcdefgh", found) == f"Bearer {MASK}, again {MASK}"


def test_the_longer_of_two_goes_first():
    assert masked("secret-value-2", secrets_in({"A_KEY": "secret-value", "B_KEY": "secret-value-2"})) == MASK


def test_output_is_masked_line_by_line(monkeypatch):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    mask_output()
    sys.stdout.write("with hf_abc")
    sys.stdout.write("defgh inside\nand a rest of hf_abcdefgh")
    sys.stdout.flush()
    print("Authorization: hf_abcdefgh", file=sys.stderr)
    assert out.getvalue() == f"with {MASK} inside\nand a rest of {MASK}"
    assert err.getvalue() == f"Authorization: {MASK}\n"
