"""What the sections of a .trit file say, held to trit-v1.md, 6 to 11.

check(file) takes a tritread.File whose bytes are verified and raises
tritread.Refused at the first rule that is broken. The tokenizer's own content
is not looked at.
"""

import json
import math
import re
import struct

from tritread import Refused

POSITIONS = ["attn", "attn_sub", "k", "mlp", "mlp_sub", "post_attn", "post_mlp", "proj", "q"]
PROJECTIONS = ["down", "gate", "k", "o", "q", "up", "v"]
MODALITIES = ["audio", "code", "image", "text"]
RULES = (
    "absmean absmean-row absmean-group threshold values packed packed-rows scale inverse-scale "
    "blocks i2s-x86 copy f32 scaled-bias int8-row dropped"
).split()
OPTIONS = {
    "activations": "int8|none", "encoding": "trit3", "head": "int8", "i2s_layout": "x86",
    "rule": "absmean|absmean-row|absmean-group=[0-9]+", "scale": "multiply|divide",
}


class Text:
    """One JSON section. Methods take a value out and refuse what it must not be."""

    def __init__(self, file, name):
        self.name, self.offset = name, file.sections[name]["offset"]
        self.value = json.loads(file.read(self.offset, file.sections[name]["length"]))

    def refuse(self, field, got, want):
        raise Refused("config", self.offset, f"section {self.name}: {field}", got, want)

    def need(self, ok, field, got, want):
        if not ok:
            self.refuse(field, got, want)

    def keys(self, v, field, required, optional=()):
        self.need(isinstance(v, dict), field, v, "an object")
        for key in v:
            self.need(key in required or key in optional, field, f"with the key {key!r}", "known keys only")
        for key in required:
            self.need(key in v, field, f"without the key {key!r}", "all keys")

    def integer(self, v, field, low, high=2**53 - 1):
        self.need(type(v) is int and low <= v <= high, field, v, f"an integer from {low} to {high}")
        return v

    def number(self, v, field, ok, want):
        self.need(type(v) in (int, float) and ok(v), field, v, want)

    def string(self, v, field, pattern=r"(?s).*"):
        self.need(isinstance(v, str) and re.fullmatch(pattern, v), field, v, pattern)

    def one_of(self, v, field, values):
        self.need(isinstance(v, str) and v in values, field, v, f"one of {values}")

    def list(self, v, field):
        self.need(isinstance(v, list), field, v, "a list")
        return v

    def ascending(self, v, field):
        self.need(all(a < b for a, b in zip(v, v[1:])), field, v, "ascending, without repeats")

    def set(self, v, field, values):
        for e in self.list(v, field):
            self.one_of(e, field, values)
        self.ascending(v, field)


def positive_f32(v):
    try:
        f = struct.unpack("<f", struct.pack("<f", v))[0]
    except OverflowError:
        return False
    return f > 0 and math.isfinite(f)


def config(t):
    c = t.value
    norms = c.get("norms") if isinstance(c, dict) else None
    proj = isinstance(norms, list) and "proj" in norms
    t.keys(c, "value", (
        "activation activation_quant biases head_dim hidden_size intermediate_size max_position_embeddings modalities "
        "norm norm_eps norms num_heads num_kv_heads num_layers rope tied_head vocab_size"
    ).split() + ["proj_norm_eps"] * proj)
    t.one_of(c["activation"], "activation", ["silu", "relu2"])
    t.one_of(c["activation_quant"], "activation_quant", ["int8", "none"])
    t.one_of(c["norm"], "norm", ["rms", "layer"])
    t.set(c["biases"], "biases", PROJECTIONS)
    t.set(c["norms"], "norms", POSITIONS)
    t.set(c["modalities"], "modalities", MODALITIES)
    t.need(c["modalities"], "modalities", "empty", "at least one")
    t.need(not proj or c["norm"] == "rms", "norm", c["norm"], "rms, because norms has proj")
    for key in ["norm_eps"] + ["proj_norm_eps"] * proj:
        t.number(c[key], key, positive_f32, "a positive finite float32")
    limits = {"head_dim": 4096, "num_heads": 4096, "num_kv_heads": 4096, "num_layers": 4096, "vocab_size": 2**24 - 1}
    for key in ("hidden_size", "intermediate_size", "max_position_embeddings"):
        limits[key] = 2**24
    for key, high in limits.items():
        t.integer(c[key], key, 1, high)
    t.need(c["head_dim"] % 2 == 0, "head_dim", c["head_dim"], "even")
    t.need(c["num_heads"] % c["num_kv_heads"] == 0, "num_heads", c["num_heads"], "a multiple of num_kv_heads")
    t.need(isinstance(c["tied_head"], bool), "tied_head", c["tied_head"], "true or false")
    rope(t, c["rope"])
    return c


def rope(t, r):
    kind = r.get("type") if isinstance(r, dict) else None
    llama3 = ["factor", "high_freq_factor", "low_freq_factor", "original_max_position_embeddings"]
    extra = {"default": [], "linear": ["factor"], "llama3": llama3}
    t.one_of(kind, "rope.type", list(extra))
    t.keys(r, "rope", ["pairing", "theta", "type"] + extra[kind])
    t.one_of(r["pairing"], "rope.pairing", ["half"])
    t.number(r["theta"], "rope.theta", lambda v: 1 < v <= 1e12, "above 1, at most 1e12")
    if kind != "default":
        t.number(r["factor"], "rope.factor", lambda v: 1 <= v <= 1e6, "1 to 1e6")
    if kind == "llama3":
        for key in llama3[1:3]:
            t.number(r[key], "rope." + key, lambda v: 0 < v <= 1e6, "above 0, at most 1e6")
        t.need(r["low_freq_factor"] < r["high_freq_factor"], "rope.high_freq_factor", r["high_freq_factor"], "above low_freq_factor")
        t.integer(r[llama3[3]], "rope." + llama3[3], 1, 2**24)


def generation(t, vocab):
    g = t.value
    t.keys(g, "value", ["eos"], "max_new_tokens min_p modality repetition_penalty temperature top_k top_p".split())
    for i in t.list(g["eos"], "eos"):
        t.integer(i, "eos", 0, vocab - 1)
    t.ascending(g["eos"], "eos")
    ranges = {"min_p": (0, 1), "repetition_penalty": (0.01, 100), "temperature": (0, 2)}
    for key, (low, high) in ranges.items():
        if key in g:
            t.number(g[key], key, lambda v: low <= v <= high, f"{low} to {high}")
    if "top_p" in g:
        t.number(g["top_p"], "top_p", lambda v: 0 < v <= 1, "above 0, at most 1")
    for key, low in (("top_k", 0), ("max_new_tokens", 1)):
        if key in g:
            t.integer(g[key], key, low)
    if "modality" in g:
        t.one_of(g["modality"], "modality", MODALITIES)


def provenance(t, tensors):
    p = t.value
    t.keys(p, "value", ["config_sha256", "family", "options", "tensors", "tool"])
    t.string(p["config_sha256"], "config_sha256", "[0-9a-f]{64}")
    t.string(p["family"], "family")
    t.string(p["tool"], "tool")
    t.keys(p["options"], "options", [], OPTIONS)
    for key, value in p["options"].items():
        t.string(value, "options." + key, OPTIONS[key])
    targets = set()
    for s in t.list(p["tensors"], "tensors"):
        t.keys(s, "tensors", ["dtype", "file", "name", "rule", "sha256", "shape", "target"])
        for key in ("dtype", "file", "name", "target"):
            t.string(s[key], "tensors." + key)
        t.string(s["sha256"], "tensors.sha256", "[0-9a-f]{64}")
        t.one_of(s["rule"], "tensors.rule", RULES)
        for n in t.list(s["shape"], "tensors.shape"):
            t.integer(n, "tensors.shape", 0)
        t.need((s["rule"] == "dropped") == (s["target"] == ""), "tensors.target", s["target"], "empty for what is dropped only")
        t.need(s["target"] in tensors or s["target"] == "", "tensors.target", s["target"], "a tensor of the file")
        targets.add(s["target"])
    for name in tensors:
        t.need(name in targets, "tensors", f"without {name}", "every tensor of the file")


def self_test(t, vocab, positions):
    s = t.value
    t.keys(s, "value", ["logits", "prompt", "texts"])
    t.need(1 <= len(t.list(s["prompt"], "prompt")) <= positions, "prompt", s["prompt"], f"1 to {positions} ids")
    t.need(1 <= len(t.list(s["logits"], "logits")) <= vocab, "logits", s["logits"], f"1 to {vocab}")
    ids = list(s["prompt"])
    for x in t.list(s["texts"], "texts"):
        t.keys(x, "texts", ["ids", "text"])
        t.string(x["text"], "texts.text")
        ids += t.list(x["ids"], "texts.ids")
    last = None
    for x in s["logits"]:
        t.keys(x, "logits", ["bits", "id"])
        ids.append(x["id"])
        v = struct.unpack("<f", struct.pack("<I", t.integer(x["bits"], "logits.bits", 0, 2**32 - 1)))[0]
        t.need(math.isfinite(v), "logits.bits", v, "a finite number")
        t.integer(x["id"], "logits.id", 0, vocab - 1)
        t.need(last is None or (-last[0], last[1]) < (-v, x["id"]), "logits", (v, x["id"]), "descending, ties by lower id")
        last = (v, x["id"])
    for i in ids:
        t.integer(i, "ids", 0, vocab - 1)


def codebooks(file, c):
    """What section 18 demands of codebooks together and of the config; tritread looks at each by itself."""
    taken = range(0)
    for kind in ("image", "audio", "embedding"):
        name = "codebook-" + kind
        if name not in file.sections:
            continue
        offset = file.sections[name]["offset"]
        h = json.loads(file.read(offset + 8, struct.unpack("<Q", file.read(offset, 8))[0]))

        def need(ok, field, got, want):
            if not ok:
                raise Refused("config", offset + 8, f"section {name}: {field}", got, want)

        ids = range(h["first_id"], h["first_id"] + h["codes"] + (kind == "image"))  # the id that ends a row
        need(ids.stop <= c["vocab_size"], "ids", ids, "below vocab_size")
        if kind == "embedding":
            need(h["dim"] == c["hidden_size"], "dim", h["dim"], "hidden_size")
        else:
            need(ids.start >= 8, "first_id", ids.start, "at least 8")
            need(not taken or ids.stop <= taken.start or taken.stop <= ids.start, "ids", ids, f"none of {taken}")
            taken = ids


def manifest(c):
    """Names, dims and storage of every tensor that a config implies."""
    hidden, ffn, width = c["hidden_size"], c["intermediate_size"], c["num_heads"] * c["head_dim"]
    kv, floats, trits = c["num_kv_heads"] * c["head_dim"], ("f32", "f16", "bf16"), ("trit2", "trit3")
    out = {"embed.weight": ([c["vocab_size"], hidden], floats + ("int8",))}

    def norm(name, n):
        out[name + ".weight"] = ([n], floats)
        if c["norm"] == "layer":
            out[name + ".bias"] = ([n], ("f32",))

    sizes = {"attn": hidden, "post_attn": hidden, "mlp": hidden, "post_mlp": hidden, "q": c["head_dim"], "k": c["head_dim"], "attn_sub": width, "mlp_sub": ffn}
    shapes = {"q": [width, hidden], "k": [kv, hidden], "v": [kv, hidden], "o": [hidden, width], "gate": [ffn, hidden], "up": [ffn, hidden], "down": [hidden, ffn]}
    for n in range(c["num_layers"]):
        for position, size in sizes.items():
            if position in c["norms"]:
                norm(f"layers.{n}.{position}_norm", size)
        for p, shape in shapes.items():
            if "proj" in c["norms"]:
                out[f"layers.{n}.{p}_in_norm.weight"] = ([shape[1]], floats)
            out[f"layers.{n}.{p}.weight"] = (shape, trits)
            if p in c["biases"]:
                out[f"layers.{n}.{p}.bias"] = ([shape[0]], ("f32",))
    norm("norm", hidden)
    if not c["tied_head"]:
        out["head.weight"] = ([c["vocab_size"], hidden], floats + ("int8",) + trits)
    return out


def check(file):
    c = config(Text(file, "config"))
    want = manifest(c)
    for at, (name, t) in enumerate(file.tensors.items()):
        def need(ok, got, wanted):
            if not ok:
                raise Refused("config", 384 + 256 * at, "tensor " + name, got, wanted)

        need(name in want, "there", "no tensor of this name")
        need(t["dims"] == want[name][0], t["dims"], want[name][0])
        need(t["encoding"] in want[name][1], t["encoding"], want[name][1])
    for name in want:
        if name not in file.tensors:
            raise Refused("config", 0, "tensor " + name, "missing", want[name][0])
    if "generation" in file.sections:
        generation(Text(file, "generation"), c["vocab_size"])
    if "provenance" in file.sections:
        provenance(Text(file, "provenance"), file.tensors)
    if "self-test" in file.sections:
        self_test(Text(file, "self-test"), c["vocab_size"], c["max_position_embeddings"])
    codebooks(file, c)
    if "chat-template" in file.sections:
        s = file.sections["chat-template"]
        try:
            file.read(s["offset"], s["length"]).decode()
        except UnicodeDecodeError as e:
            raise Refused("tokenizer", s["offset"] + e.start, "section chat-template", e.reason, "UTF-8") from None
