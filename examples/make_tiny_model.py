"""Makes a Qwen2 model of a few hundred thousand parameters with a tokenizer of its own: for tests and tiny.yaml.

Its weights are random, so it knows nothing; everything else about it is real. Usage: make_tiny_model.py DIRECTORY
"""

import sys
from pathlib import Path

TEXT = [
    "Question: Where would you find a temple? Options: A) city B) jerusalem C) middle east D) school E) park",
    "Reasoning: It is a place where people gather to pray. Answer: B",
    "Reason briefly, in at most three short sentences, on one line. Then end with one line that holds one letter.",
    "The quick brown fox jumps over the lazy dog; 0 1 2 3 4 5 6 7 8 9.",
]
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tiny_model(directory: Path, seed: int = 0, **sizes: int) -> Path:
    """Writes the model to `directory`; the same seed gives the same bytes. `sizes` replace those of the model."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )
    fast.chat_template = TEMPLATE
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(fast),
        **{**SIZES, **sizes},
        initializer_range=0.2,  # lively enough for every mechanism to act: at 0.02 all contexts agree
        tie_word_embeddings=True,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config.eos_token_id = fast.eos_token_id
    model.save_pretrained(directory)
    fast.save_pretrained(directory)
    return directory


if __name__ == "__main__":
    make_tiny_model(Path(sys.argv[1]))
