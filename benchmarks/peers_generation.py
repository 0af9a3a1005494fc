"""Who else generates text: the peers of generation.py, each as its own documentation teaches.

transformers    its GPT-2, with biases of zero; prompts are padded on the left, with a mask
OpenVINO GenAI  its LLMPipeline; the model is exported with a cache that the runtime keeps

Each function takes the kit's GPT, the number of new tokens and a dtype, and returns a function from
prompts to the new tokens of each. A peer is imported when it is first asked for.
"""

import json
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

PASTS = ("past", "present")  # names of keys and values before and after a pass


def padded(prompts):
    """(tokens, mask), both (B, P): shorter prompts are padded on the left."""
    longest = max(map(len, prompts))
    rows = [[0] * (longest - len(p)) + p for p in prompts]
    mask = [[0] * (longest - len(p)) + [1] * len(p) for p in prompts]
    return torch.tensor(rows), torch.tensor(mask)


# --- transformers --------------------------------------------------------------------------------


def transformers(model, new, dtype):
    """`generate` of its GPT-2, in inference mode."""
    peer = gpt2(model).to(getattr(torch, dtype))
    length = {"max_new_tokens": new, "min_new_tokens": new}

    @torch.inference_mode()
    def write(prompts):
        tokens, mask = padded(prompts)
        out = peer.generate(tokens, attention_mask=mask, do_sample=False, pad_token_id=0, **length)
        return tuple(map(tuple, out[:, tokens.shape[1] :].tolist()))

    return write


def gpt2(model):
    """The GPT-2 of `transformers` with the kit's weights."""
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    c = model.config
    sizes = {"n_positions": c.context, "n_embd": c.d_model, "n_layer": c.n_layers}
    none = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    tokens = {"vocab_size": c.vocab_size, "bos_token_id": None, "eos_token_id": None}
    options = {"activation_function": "gelu", "tie_word_embeddings": False}
    peer = GPT2LMHeadModel(GPT2Config(n_head=c.n_heads, **sizes, **none, **tokens, **options))
    state = {
        "transformer.wte.weight": model.token_embedding.weight,
        "transformer.wpe.weight": model.position_embedding,
        "lm_head.weight": model.head.weight,
        **norm("transformer.ln_f", model.norm),
    }
    for i, block in enumerate(model.blocks):
        name = f"transformer.h.{i}"
        state |= norm(f"{name}.ln_1", block.attention_norm) | norm(f"{name}.ln_2", block.mlp_norm)
        state |= linear(f"{name}.attn.c_attn", block.attention.qkv)
        state |= linear(f"{name}.attn.c_proj", block.attention.out)
        state |= linear(f"{name}.mlp.c_fc", block.up) | linear(f"{name}.mlp.c_proj", block.down)
    peer.load_state_dict(state)
    return peer.eval().requires_grad_(False)


def norm(name, part):
    return {f"{name}.weight": part.weight, f"{name}.bias": part.bias}


def linear(name, part):
    """It stores matrices transposed, and always has a bias."""
    return {f"{name}.weight": part.weight.T, f"{name}.bias": torch.zeros(part.out_features)}


# --- OpenVINO GenAI ------------------------------------------------------------------------------


def openvino_genai(model, new, dtype):
    """`LLMPipeline` on one thread."""
    import openvino_genai as genai
    from openvino import Tensor

    folder = tempfile.TemporaryDirectory(prefix="kit-generation-")
    export(model, Path(folder.name))
    # For one batch at a time; its other way of attention is for a server with many requests.
    options = {"INFERENCE_NUM_THREADS": 1, "ATTENTION_BACKEND": "SDPA"}
    # Left to itself, it rounds the cache to 8 bits, and then writes other texts.
    of = {"float32": "f32", "bfloat16": "bf16"}[dtype]
    options |= {"INFERENCE_PRECISION_HINT": of, "KV_CACHE_PRECISION": of}
    pipeline = genai.LLMPipeline(folder.name, "CPU", **options)
    greedy = genai.GenerationConfig()
    greedy.max_new_tokens, greedy.do_sample, greedy.ignore_eos = new, False, True
    none = model.config.vocab_size  # it wants a token that ends a text: this one is never written
    greedy.eos_token_id, greedy.stop_token_ids = none, {none}

    def write(prompts, folder=folder):  # the folder is there as long as the function is
        given = genai.TokenizedInputs(*(Tensor(each.numpy()) for each in padded(prompts)))
        return tuple(map(tuple, pipeline.generate(given, greedy).tokens))

    return write


class OneStep(nn.Module):
    """The kit's GPT with the arguments that `LLMPipeline` gives: keys and values go in and out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, position_ids, beam_idx, *past):
        model, present = self.model, []
        x = model.token_embedding(input_ids) + model.position_embedding[position_ids]
        every, new = attention_mask.shape[1], input_ids.shape[1]
        causal = torch.ones(every, every, dtype=torch.bool).tril()[every - new :]
        itself = torch.eye(every, dtype=torch.bool)[every - new :]  # padding sees only itself
        mask = causal & (attention_mask.bool()[:, None, None] | itself)
        for block, keys, values in zip(model.blocks, past[::2], past[1::2], strict=True):
            attention = block.attention
            q, k, v = attention.project(block.attention_norm(x))
            k = torch.cat([keys.index_select(0, beam_idx), k], 2)
            v = torch.cat([values.index_select(0, beam_idx), v], 2)
            present += [k, v]
            x = x + attention.merge_heads(scaled_dot_product_attention(q, k, v, mask))
            x = x + block.feed_forward(block.mlp_norm(x))
        return (model.head(model.norm(x)), *present)


def export(model, folder):
    """Write the model, a vocabulary of numbers and a configuration, as `LLMPipeline` reads them."""
    import openvino as ov
    from openvino._offline_transformations import apply_make_stateful_transformation

    config = model.config
    width, parts = config.d_model // config.n_heads, 2 * config.n_layers
    past = [torch.randn(2, config.n_heads, 3, width) for _ in range(parts)]
    whole, beams = torch.zeros(2, 4, dtype=torch.long), torch.arange(2, dtype=torch.int32)
    example = (whole, torch.ones(2, 7, dtype=torch.long), whole, beams, *past)
    shapes = [[-1, -1]] * 3 + [[-1]] + [[-1, config.n_heads, -1, width]] * parts
    step = ov.convert_model(
        OneStep(model), example_input=example, input=[ov.PartialShape(each) for each in shapes]
    )
    before, after = ([f"{name}.{i}" for i in range(parts)] for name in PASTS)
    inputs = ["input_ids", "attention_mask", "position_ids", "beam_idx", *before]
    for port, name in zip(step.inputs, inputs, strict=True):
        port.tensor.set_names({name})
    for port, name in zip(step.outputs, ["logits", *after], strict=True):
        port.tensor.set_names({name})
    apply_make_stateful_transformation(step, dict(zip(before, after, strict=True)))
    start_empty(step)
    ov.save_model(step, folder / "openvino_model.xml", compress_to_fp16=False)
    write_vocabulary(config.vocab_size, folder)


def start_empty(step):
    """Give the cache its first value: as many texts as the tokens have, of no position."""
    from openvino import opset13 as op

    def whole(*values):
        return op.constant(list(values), dtype="int64")

    texts = op.gather(op.shape_of(step.input("input_ids"), "i64"), whole(0), op.constant(0))
    for node in step.get_ops():
        if node.get_type_name() == "ReadValue":
            _, heads, _, width = node.get_output_partial_shape(0)
            sizes = [texts, whole(heads.get_length()), whole(0), whole(width.get_length())]
            zero = op.constant(0.0, dtype="float32")
            node.set_arguments([op.broadcast(zero, op.concat(sizes, axis=0))])
    step.validate_nodes_and_infer_types()


def write_vocabulary(size, folder):
    """It reads a vocabulary at the start, although it is given tokens and not texts."""
    import openvino as ov
    from openvino_tokenizers import convert_tokenizer
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = Tokenizer(models.WordLevel({f"t{i}": i for i in range(size)}, unk_token="t0"))
    vocabulary.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    both = PreTrainedTokenizerFast(tokenizer_object=vocabulary, pad_token="t0", unk_token="t0")
    made = convert_tokenizer(both, with_detokenizer=True)
    for part, name in zip(made, ("tokenizer", "detokenizer"), strict=True):
        ov.save_model(part, folder / f"openvino_{name}.xml")
    about = {"model_type": "gpt2", "vocab_size": size, "bos_token_id": 0, "eos_token_id": 0}
    (folder / "config.json").write_text(json.dumps(about), encoding="utf-8")


PEERS = {  # name -> (what writes, the package that it needs)
    "transformers": (transformers, "transformers"),
    "OpenVINO GenAI": (openvino_genai, "openvino_genai"),
}
