"""Makes made/*.json: small tokenizers of many pipelines and what the tokenizers library (0.23) gives for them.

    python3 make.py OUT
"""
import json, os, sys
from tokenizers import Tokenizer, AddedToken, Regex, models, trainers, normalizers as N, pre_tokenizers as P, decoders as D, processors as R

OUT = sys.argv[1]
os.makedirs(OUT, exist_ok=True)
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CORPUS = ["the quick brown fox jumps over the lazy dog", "def main(args):\n    return args[0] + 12345", "Don't you'll we've I'M naïve café", "日本語 テキスト 中文", "hello  world   spaces\t\ttabs\n\n",
          "for (int i = 0; i < 100; i++) { sum += x[i]; }", "ﬁne ① ² Å é", "multiple words in a sentence, with punctuation! really? yes: (indeed)"] * 4
TEXTS = ["", " ", "  ", "\n", "hello", " hello", "hello ", "  hello  world  ", "def f(x):\n\treturn x", "I'm don't WE'RE they'll", "12345 1 22 3333", "naïve café e\u0301", "日本語テキスト", "🙂 emoji 👩‍👩‍👧",
         "ﬁne ① ² Å", "<s>hello</s>", "<s> a </s>b", "a<x>b", "a <x> b", " <x> ", "x<n>y<N>z", "unk \u0378 \U0010ffff", "tab\tand\r\nnewline", "a\u00a0b\u3000c", "ÀÉ straße İ", "...!?;:", "_under_score__", "▁ literal ▁x",
         "\u200bzero\u200dwidth", "mixed日本and英語", "a" * 70, "<w>word<w> w<w>w", "\x00\x07\x7f", "<0x41> <0x0A>", "The END.\n\n  Next  line  ", "١٢٣ ௧", "don’t “quote”"]


def build(name, model, normalizer=None, pre=None, decoder=None, post=None, added=(), alphabet=(), **trainer):
    t = Tokenizer(model)
    if normalizer: t.normalizer = normalizer
    if pre: t.pre_tokenizer = pre
    if decoder: t.decoder = decoder
    special = ["<unk>", "<s>", "</s>"]
    extra = [f"<0x{i:02X}>" for i in range(256)] if trainer.pop("bytes", False) else []
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=420 + len(extra), special_tokens=special + extra, initial_alphabet=list(alphabet), show_progress=False))
    for a in added: (t.add_special_tokens if a.special else t.add_tokens)([a])
    if post: t.post_processor = post(t)
    s = json.loads(t.to_str())
    if extra:  # bytes are ordinary vocabulary, not added tokens
        s["added_tokens"] = [a for a in s["added_tokens"] if not a["content"].startswith("<0x")]
    s["model"] |= {k: v for k, v in trainer.items()}
    t = Tokenizer.from_str(json.dumps(s))
    cases = []
    for x in TEXTS:
        e, n = t.encode(x), t.encode(x, add_special_tokens=False)
        cases.append({"text": x, "ids": n.ids, "ids_with_special": e.ids, "decoded": t.decode(e.ids, skip_special_tokens=False), "decoded_skip_special": t.decode(e.ids, skip_special_tokens=True),
                      "tokens": n.tokens})
    ids = [[i] for i in range(0, t.get_vocab_size(), 7)] + [[i % t.get_vocab_size() for i in range(k, k * 40, k)] for k in (3, 11, 17)]
    decoded = [{"ids": i, "decoded": t.decode(i, skip_special_tokens=False), "decoded_skip_special": t.decode(i, skip_special_tokens=True)} for i in ids]
    json.dump({"tokenizer": t.to_str(), "cases": cases, "decodings": decoded}, open(os.path.join(OUT, name + ".json"), "w"), ensure_ascii=True, separators=(",", ":"))
    print(name, t.get_vocab_size(), flush=True)


def template(t):
    return R.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", t.token_to_id("<s>")), ("</s>", t.token_to_id("</s>"))])


def bos(t):
    return R.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", t.token_to_id("<s>"))])


bpe = lambda **k: models.BPE(**k)
A = P.ByteLevel.alphabet()
byte = lambda **k: P.ByteLevel(**({"add_prefix_space": False} | k))
sp = lambda: D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)])
build("gpt2", bpe(), pre=byte(), decoder=D.ByteLevel(), post=lambda t: R.ByteLevel(trim_offsets=False), alphabet=A)
build("gpt2-prefix", bpe(), pre=byte(add_prefix_space=True), decoder=D.ByteLevel(), post=bos, alphabet=A)
build("llama3", bpe(), pre=P.Sequence([P.Split(Regex(LLAMA3), "isolated"), byte(use_regex=False)]), decoder=D.ByteLevel(), post=lambda t: R.Sequence([R.ByteLevel(trim_offsets=False), bos(t)]), alphabet=A, ignore_merges=True)
build("qwen", bpe(), normalizer=N.NFC(), pre=P.Sequence([P.Split(Regex(QWEN), "isolated"), byte(use_regex=False)]), decoder=D.ByteLevel(), alphabet=A,
      added=[AddedToken("<x>", special=True), AddedToken("<n>", normalized=False), AddedToken("<N>", normalized=True)])
build("deepseek", bpe(), pre=P.Sequence([P.Split(Regex(r"[\r\n]"), "isolated"), P.Split(Regex(r"\s?\p{L}+"), "isolated"), P.Split(Regex(r"\s?\p{P}+"), "isolated"), P.Digits(individual_digits=True), byte(use_regex=False)]),
      decoder=D.ByteLevel(), alphabet=A)
build("neox", bpe(), normalizer=N.NFC(), pre=byte(), decoder=D.ByteLevel(), post=template, alphabet=A, added=[AddedToken("  ", normalized=True), AddedToken("   ", normalized=True)])
build("llama2", bpe(unk_token="<unk>", byte_fallback=True, fuse_unk=True), normalizer=N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]), decoder=sp(), post=bos, bytes=True, byte_fallback=True, fuse_unk=True, unk_token="<unk>")
build("metaspace-first", bpe(unk_token="<unk>"), pre=P.Metaspace(prepend_scheme="first", split=False), decoder=D.Metaspace(prepend_scheme="first", split=False), post=template,
      bytes=True, byte_fallback=True, fuse_unk=True, unk_token="<unk>", added=[AddedToken("<x>", special=True)])
build("metaspace-always", bpe(unk_token="<unk>"), pre=P.Metaspace(prepend_scheme="always"), decoder=D.Metaspace(prepend_scheme="always"), unk_token="<unk>", added=[AddedToken("<x>", lstrip=True, rstrip=True)])
build("metaspace-never", bpe(unk_token="<unk>"), pre=P.Metaspace(prepend_scheme="never"), decoder=D.Metaspace(prepend_scheme="never"), unk_token="<unk>", fuse_unk=True,
      added=[AddedToken("<x>", single_word=True), AddedToken("<w>", single_word=True, special=True)])
build("gemma", bpe(unk_token="<unk>"), normalizer=N.Replace(" ", "▁"), pre=P.Split(" ", "merged_with_previous"), decoder=D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse()]),
      bytes=True, byte_fallback=True, fuse_unk=True, unk_token="<unk>", post=bos)
build("nfkc-lower", bpe(unk_token="<unk>"), normalizer=N.Sequence([N.NFKC(), N.Lowercase(), N.Strip()]), pre=P.Whitespace(), unk_token="<unk>", added=[AddedToken("<N>", normalized=True), AddedToken("<x>", normalized=False, lstrip=True)])
build("nfd-accents", bpe(unk_token="<unk>"), normalizer=N.Sequence([N.NFD(), N.StripAccents()]), pre=P.Sequence([P.WhitespaceSplit(), P.Punctuation()]), unk_token="<unk>", fuse_unk=True)
build("nfkd-digits", bpe(unk_token="<unk>"), normalizer=N.NFKD(), pre=P.Sequence([P.Digits(individual_digits=False), P.Punctuation("contiguous")]), unk_token="<unk>")
for b in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"):
    build("split-" + b, bpe(unk_token="<unk>"), pre=P.Split(Regex(r"[\s\p{P}]"), b), unk_token="<unk>", decoder=D.Fuse())
build("split-invert", bpe(unk_token="<unk>"), pre=P.Split(Regex(r"\w+"), "isolated", invert=True), unk_token="<unk>", decoder=D.Fuse())
build("suffix", bpe(unk_token="<unk>", end_of_word_suffix="</w>"), normalizer=N.Lowercase(), pre=P.Whitespace(), decoder=D.BPEDecoder("</w>"), unk_token="<unk>")
