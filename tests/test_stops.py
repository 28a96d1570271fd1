"""Answers end at the tokens that the template and the configs end them with, and at no ordinary word."""

from ollamaq.chat.stops import Stop, stop_tokens
from ollamaq.checkpoint import open_checkpoint


def stops(path):
    return stop_tokens(open_checkpoint(path))


def test_the_token_behind_an_answer_comes_first(tiny_checkpoint):
    path = tiny_checkpoint(generation_config={"eos_token_id": [0, 2]}, tokenizer_config={"eos_token": "<|endoftext|>"})
    assert stops(path) == (Stop("<|im_end|>", "chat template"), Stop("<|endoftext|>", "generation_config.json"))


def test_every_file_that_names_an_end_is_heard(tiny_checkpoint):
    path = tiny_checkpoint(
        config={"eos_token_id": 0},
        generation_config={"eos_token_id": 1},
        tokenizer_config={"eos_token": "<|im_end|>", "chat_template": None},
    )
    assert stops(path) == (
        Stop("<|im_start|>", "generation_config.json"),
        Stop("<|im_end|>", "tokenizer_config.json"),
        Stop("<|endoftext|>", "config.json"),
    )


def test_a_config_that_points_at_a_word_stops_nothing(tiny_checkpoint):
    template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    path = tiny_checkpoint(
        config={"eos_token_id": 70},
        generation_config={"eos_token_id": 71},
        tokenizer_config={"eos_token": "e", "chat_template": template},
    )
    assert stops(path) == ()


def test_what_a_template_puts_around_turns_is_no_end(tiny_checkpoint):
    template = "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}\n{% endfor %}"
    path = tiny_checkpoint(tokenizer_config={"chat_template": template})
    assert "<|im_start|>" not in [stop.text for stop in stops(path)]


def test_the_token_behind_an_answer_may_stand_on_a_line_of_its_own(tiny_checkpoint):
    template = "{% for m in messages %}{{ m.content }}\n{{ eos_token }}{% endfor %}"
    path = tiny_checkpoint(tokenizer_config={"chat_template": template, "eos_token": "<|endoftext|>"})
    assert stops(path)[0] == Stop("<|endoftext|>", "chat template")


def test_an_added_token_that_is_not_marked_as_special_ends_answers_too(tiny_checkpoint):
    path = tiny_checkpoint(tokenizer={"added_tokens": [{"id": 2, "content": "<|im_end|>", "special": False}]})
    assert stops(path) == (Stop("<|im_end|>", "chat template"),)


def test_a_template_that_refuses_or_fails_leaves_it_to_the_files(tiny_checkpoint):
    for name, template in (("refusing", "{{ raise_exception('no') }}"), ("failing", "{{ 1 // 0 }}")):
        path = tiny_checkpoint(name, tokenizer_config={"chat_template": template})
        assert stops(path) == (Stop("<|im_end|>", "generation_config.json"),)


def test_a_special_token_of_tokenizer_config_may_be_a_dictionary(tiny_checkpoint):
    path = tiny_checkpoint(
        config={"eos_token_id": None},
        generation_config={"eos_token_id": None},
        tokenizer_config={"eos_token": {"content": "<|im_end|>"}, "chat_template": None},
    )
    assert stops(path) == (Stop("<|im_end|>", "tokenizer_config.json"),)


def test_a_token_that_ends_a_part_of_an_answer_is_no_end(tiny_checkpoint):
    """As in gpt-oss, whose thoughts end with what an answer ends with; generation_config.json says what ends both."""
    template = (
        "{% for m in messages %}{% if m.thinking %}{{ m.thinking }}<|im_end|>{% endif %}{{ m.content }}<|im_end|>"
        "{% endfor %}"
    )
    path = tiny_checkpoint(
        config={"eos_token_id": 0},
        generation_config={"eos_token_id": 0},
        tokenizer_config={"eos_token": "<|endoftext|>", "chat_template": template},
    )
    assert stops(path) == (Stop("<|endoftext|>", "generation_config.json"),)
