"""A checkpoint of the official form, small enough to make: byte-level ranks, 16 visual codes, random weights."""

import base64
import json
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file

from emu_robot.emu35.text import RANKS, SPECIAL, VISION
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.transformer_sizes import TransformerConfig
from emu_robot.tokenizers.image import EncoderKind, ImageTokenizer, ImageTokenizerConfig

N_CODES = 16
MERGES = [b"th", b"the", b" the", b"op", b" op", b"en", b" open", b" d", b" dr", b" dra", b"we", b"wer"]
LINES = [
    "<|image token|>", "<|image start|>", "<|image end|>",
    *(f"<|visual token {i:06d}|>" for i in range(N_CODES)),
]  # fmt: skip
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


def write_text(folder: Path) -> None:
    tokens = [*(bytes([i]) for i in range(256)), *MERGES]
    lines = [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(tokens)]
    (folder / RANKS).write_text("\n".join(lines) + "\n")
    (folder / VISION).write_text("\n".join(LINES) + "\n")


def make_checkpoint(folder: Path) -> Path:
    """A folder with a language model in two shards and its vocabulary, and a vision tokenizer in `vision`."""
    torch.manual_seed(0)
    (folder / "vision").mkdir(parents=True)
    write_text(folder)
    vocab = 256 + len(MERGES) + len(SPECIAL) + len(LINES)
    config = TransformerConfig(
        **SIZES, vocab_size=vocab, num_key_value_heads=2, head_dim=16, rope_theta=1e6, initializer_range=0.2,
        tie_word_embeddings=False, references=False, unrotated_groups=0,
    )  # fmt: skip
    state = CausalTransformer(config).state_dict()
    names = sorted(state)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, members in shards.items():
        save_file({name: state[name].clone() for name in members}, folder / file)
    index = {"weight_map": {name: file for file, members in shards.items() for name in members}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    official = {key: value for key, value in vars(config).items() if key not in ("references", "unrotated_groups")} | {
        "model_type": "Emu3"
    }
    (folder / "config.json").write_text(json.dumps(official))
    layout = {"z_channels": 8, "resolution": 32, "ch": 16, "ch_mult": [1, 1], "num_res_blocks": 1}
    settings = {"ddconfig": {**layout, "attn_resolutions": []}, "n_embed": N_CODES, "embed_dim": 4, "beta": 0.25}
    (folder / "vision/config.yaml").write_text(yaml.safe_dump(settings))
    tokenizer = ImageTokenizer(
        ImageTokenizerConfig(
            **layout, attn_resolutions=[], patch_size=1, n_embed=N_CODES, embed_dim=4, learned_position=False,
            encoder=EncoderKind.official, l2_norm=False, scale=1.0,
        )
    )  # fmt: skip
    torch.save({"state_dict": tokenizer.state_dict()}, folder / "vision/model.ckpt")
    return folder
